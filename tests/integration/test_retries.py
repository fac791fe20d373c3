from __future__ import annotations

import pytest

from core import jobs, outcomes
from core.accounts import Caller
from core.claims import claim
from core.database import transaction
from core.errors import AlreadyFinished, Gone, InsufficientCredits, InvalidImage, NotFinished, NotFound
from core.job_views import job_view
from core.outcomes import Outcome
from core.settings import settings
from core.states import Status
from core.storage import image_store
from tests.domain import MODEL, assert_ledger_balances, new_caller, png, read, retry, rows, submit_lines


def half_read(grant_credits: int = 10) -> tuple[Caller, str]:
    """A job of two images of which the second failed."""
    caller = new_caller(grant_credits=grant_credits)
    job_id = submit_lines(caller, 2)
    good, bad = claim("wrk_1", MODEL, most=2)
    failed = Outcome(image_id=bad.image_id, job_id=job_id, attempt=bad.attempt, error=InvalidImage())
    outcomes.finish([read(good), failed])
    return caller, job_id


def test_a_retry_is_a_new_job_with_only_what_was_not_read() -> None:
    caller, job_id = half_read()
    again = retry(caller, job_id)
    with transaction() as connection:
        job = job_view(connection, caller, again)
    assert (job.retry_of, job.status, [image.key for image in job.images]) == (job_id, Status.QUEUED, ["line-1"])


def test_a_retry_is_charged_only_for_what_is_then_read() -> None:
    caller, job_id = half_read(grant_credits=10)
    retry(caller, job_id)
    outcomes.finish([read(claim("wrk_1", MODEL, most=1)[0])])
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(8_000_000, 0)]  # 10 - 1 - 1
    assert_ledger_balances()


def test_a_retry_outlives_the_job_that_it_retries() -> None:
    caller, job_id = half_read()
    again = retry(caller, job_id)
    jobs.delete_job(caller, job_id)
    stored = image_store(settings()).list("images")
    assert ([again in key for key in stored].count(True), [job_id in key for key in stored].count(True)) == (1, 0)


def test_what_was_canceled_can_be_retried() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2, data=png())
    jobs.cancel(caller, job_id)
    with transaction() as connection:
        assert job_view(connection, caller, retry(caller, job_id)).images_total == 2


def test_a_job_that_runs_or_was_read_whole_cannot_be_retried() -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    with pytest.raises(NotFinished):
        retry(caller, job_id)
    outcomes.finish([read(claim("wrk_1", MODEL, most=1)[0])])
    with pytest.raises(AlreadyFinished, match="nothing to retry"):
        retry(caller, job_id)


def test_a_strangers_or_a_deleted_job_cannot_be_retried() -> None:
    caller, job_id = half_read()
    with pytest.raises(NotFound):
        retry(new_caller("stranger"), job_id)
    jobs.delete_job(caller, job_id)
    with pytest.raises(Gone):
        retry(caller, job_id)


def test_who_cannot_pay_cannot_retry() -> None:
    caller, job_id = half_read(grant_credits=2)
    submit_lines(caller)
    with pytest.raises(InsufficientCredits):
        retry(caller, job_id)
