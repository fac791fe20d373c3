"""Every fault once, some of them together; `make faults` has them one by one, at many random moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.endurance import endured
from tests.faults.injections import FAULTS
from tests.faults.site import Site, running_site

#: Longer than the interval of any client's health checks, seconds.
OUTAGE_S = 12.0

#: Each wait in a round has its own bound.
pytestmark = pytest.mark.timeout(600)

#: What is injected together: the service must recover from all of it at once.
TOGETHER = [
    [f"kill -9 of {name}" for name in ("the clerk", "the worker", "the API", "the courier", "Postgres", "Redis")],
    ["Redis takes no writes", "FLUSHALL", "kill -9 of the API's serving process"],
    ["storage full", "stop of Postgres", "stop of Redis"],
    ["Postgres takes no writes", "Postgres's disk full"],
    ["worker frozen past its lease"],
    ["device wedged"],
    ["decoder crashed"],
    # Not together: a consumer that connects anew after an outage hears again, however deaf its old connection is.
    ["network to Redis lost"],
    ["worker no longer consumes"],
    ["SIGTERM of everything"],
]
#: The others take another start of the service.
IN_THE_LONG_RUN_ONLY = {"kill -9 of everything"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("state"), outage_s=OUTAGE_S) as site:
        yield site


@pytest.mark.parametrize("names", TOGETHER, ids=", ".join)
def test_no_job_is_lost_and_none_is_charged_twice(
    site: Site, names: list[str], record_property: Callable[[str, object], None]
) -> None:
    record_property("recovery_s", endured(site, names))


def test_the_audit_of_the_operator_is_clean_after_all_of_it(site: Site) -> None:
    assert site.service.command("audit") == "ledger, jobs, keys and grants agree"


def test_every_fault_is_tried() -> None:
    assert {name for names in TOGETHER for name in names} | IN_THE_LONG_RUN_ONLY == set(FAULTS)
