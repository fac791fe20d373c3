from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from api.event_stream import open_stream
from core import credits, outcomes
from core.claims import claim
from core.database import transaction
from core.deadlines import expire_due
from core.job_views import job_view
from core.states import Status
from core.webhooks import JobWebhook
from tests.domain import MODEL, assert_ledger_balances, new_caller, read, rows, submit_lines
from tests.waiting import wait_until


def come() -> list[str]:
    """All deadlines come, and the sweeper."""
    rows("UPDATE jobs SET deadline_at = now() WHERE deadline_at IS NOT NULL RETURNING id")
    with transaction() as connection:
        return expire_due(connection)


def test_a_job_that_nobody_started_expires_free() -> None:
    caller = new_caller(grant_credits=5)
    job_id = submit_lines(caller, 2, deadline_s=60)
    assert come() == [job_id]
    with transaction() as connection:
        job = job_view(connection, caller, job_id)
    assert (job.status, {image.status for image in job.images}) == (Status.EXPIRED, {Status.EXPIRED})
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(5_000_000, 0)]
    assert claim("wrk_1", MODEL, most=2) == []
    assert_ledger_balances()


def test_a_job_whose_deadline_has_not_come_or_that_has_none_stays() -> None:
    submit_lines(new_caller(), deadline_s=60)
    submit_lines(new_caller())
    with transaction() as connection:
        assert expire_due(connection) == []


def test_what_a_worker_reads_at_the_deadline_is_finished_and_the_rest_expires() -> None:
    caller = new_caller(grant_credits=5)
    job_id = submit_lines(caller, 3, deadline_s=60)
    (found,) = claim("wrk_1", MODEL, most=1)
    assert come() == [job_id]
    assert come() == []
    outcomes.finish([read(found)])
    with transaction() as connection:
        job = job_view(connection, caller, job_id)
    assert (job.status, job.charged_micro, job.held_micro) == (Status.PARTIAL, 1_000_000, 0)
    assert [image.status for image in job.images] == [Status.SUCCEEDED, Status.EXPIRED, Status.EXPIRED]
    assert_ledger_balances()


def test_accounts_are_locked_in_their_order_whatever_the_order_of_their_jobs() -> None:
    first, second = sorted((new_caller("one"), new_caller("two")), key=lambda caller: caller.account_id)
    submit_lines(second, deadline_s=60)
    submit_lines(first, deadline_s=60)
    with ThreadPoolExecutor() as threads:
        with transaction() as connection:
            credits.credit(connection, first.account_id, lock=True)
            sweep = threads.submit(come)
            wait_until(lambda: rows("SELECT 1 FROM pg_locks WHERE NOT granted"))
            credits.credit(connection, second.account_id, lock=True)
        assert len(sweep.result(timeout=20)) == 2


def test_a_stream_tells_what_expired() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2, deadline_s=60)
    (found,) = claim("wrk_1", MODEL, most=1)
    come()
    outcomes.finish([read(found)])
    told = "".join(open_stream(caller, job_id, after=0) or ())
    assert [line for line in told.splitlines() if line.startswith(("id", "event"))][2:] == [
        *("id: 2", "event: status"),
        *("id: 3", "event: image"),
        *("id: 4", "event: line"),
        *("id: 5", "event: done"),
    ]
    assert '"status":"expired"' in told


@pytest.mark.usefixtures("webhooks_to_here")
def test_an_expired_job_is_told_as_failed() -> None:
    submit_lines(new_caller(), deadline_s=60, webhook=JobWebhook(url="http://127.0.0.1:1"))
    come()
    assert rows("SELECT event, data ->> 'status' FROM webhook_deliveries") == [("job.failed", "expired")]
