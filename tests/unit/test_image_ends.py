from __future__ import annotations

import pytest

from core.claims import Claim
from core.errors import InkqueueError
from core.outcomes import Outcome
from core.states import Priority
from tests.claims import claim_of
from worker.claimed_images import ClaimedImages
from worker.finisher import Finisher
from worker.image_ends import ImageEnds


class PatientFinisher(Finisher):
    """Writes nothing, and tells how long each end would have waited for company."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: dict[str, float] = {}

    def finish(self, outcome: Outcome, *, may_wait_s: float = 0.0) -> None:
        self.waits_s[outcome.image_id] = may_wait_s


@pytest.fixture
def finisher() -> PatientFinisher:
    return PatientFinisher()


def ends_of(finisher: PatientFinisher, *claims: Claim) -> ImageEnds:
    claimed = ClaimedImages()
    claimed.add(claims, claimed_ns=0)
    return ImageEnds("model", claimed, finisher)


def test_the_last_image_of_an_idle_worker_is_written_at_once(finisher: PatientFinisher) -> None:
    ends = ends_of(finisher, claim_of("a"))
    ends.blank("a")
    assert finisher.waits_s == {"a": 0.0}


def test_an_end_waits_for_company_while_others_are_read_and_longer_where_its_job_goes_on(
    finisher: PatientFinisher,
) -> None:
    ends = ends_of(finisher, claim_of("a"), claim_of("b"), claim_of("c", job_id="job_2"))
    ends.blank("a")
    ends.fail("b", InkqueueError("unreadable"))
    ends.blank("c")
    assert finisher.waits_s == {"a": 0.1, "b": 0.05, "c": 0.0}


def test_an_interactive_job_ends_at_once(finisher: PatientFinisher) -> None:
    ends = ends_of(finisher, claim_of("a", priority=Priority.INTERACTIVE), claim_of("b", job_id="job_2"))
    ends.blank("a")
    assert finisher.waits_s == {"a": 0.0}


def test_the_end_of_a_suspect_is_written_at_once(finisher: PatientFinisher) -> None:
    ends = ends_of(finisher, claim_of("a", suspect=True), claim_of("b", suspect=True))
    ends.blank("a")
    assert finisher.waits_s == {"a": 0.0}


def test_what_was_dropped_does_not_end(finisher: PatientFinisher) -> None:
    ends_of(finisher).blank("a")
    assert not finisher.waits_s
