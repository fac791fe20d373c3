from __future__ import annotations

from collections import Counter

import pytest

from core.database import transaction
from core.delivery_claims import AttemptResult, claim_deliveries, report
from core.redis_address import redis_client
from core.settings import settings
from core.webhook_deliveries import delete_old
from core.webhooks import JobWebhook
from tests.domain import new_caller, rows
from tests.receiver import receiving
from tests.waiting import wait_until
from tests.webhook_domain import deliveries, delivering, ended_job, endpoint, statuses

pytestmark = pytest.mark.usefixtures("webhooks_to_here")


def test_a_claim_that_runs_out_is_delivered_by_another_courier_under_the_same_id() -> None:
    caller = new_caller()
    with receiving() as receiver:
        ended_job(caller, JobWebhook(url=receiver.url))
        (lost,) = claim_deliveries(most=10, troubled=[], in_trouble=False)
        assert claim_deliveries(most=10, troubled=[], in_trouble=False) == []
        rows("UPDATE webhook_deliveries SET claimed_until = now() RETURNING id")
        (again,) = claim_deliveries(most=10, troubled=[], in_trouble=False)
    assert (again.event_id, again.attempt) == (lost.event_id, 2)
    report(lost, AttemptResult(latency_ms=1, status_code=200))
    assert statuses(caller) == [("job.completed", "pending")]


def test_couriers_at_the_same_time_deliver_everything_once() -> None:
    caller = new_caller()
    with receiving() as receiver:
        for _ in range(50):
            ended_job(caller, JobWebhook(url=receiver.url))
        with delivering(), delivering(), delivering():
            redis_client().flushall()
            wait_until(lambda: rows("SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'") == [(50,)])
    assert set(Counter(request.webhook_id for request in receiver.requests).values()) == {1}
    assert len(receiver.requests) == 50


def test_an_address_that_turned_private_is_refused_at_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = new_caller()
    monkeypatch.setenv("INKQUEUE_WEBHOOK_ALLOW_CIDRS", "")
    settings.cache_clear()
    with receiving() as receiver, delivering():
        ended_job(caller, JobWebhook(url=receiver.url))
        wait_until(lambda: deliveries(caller)[0].attempts)
    assert "not allowed" in str(deliveries(caller)[0].attempts[0].error)
    assert receiver.requests == []


def test_a_receiver_gets_few_requests_at_once_and_one_in_trouble_only_one() -> None:
    caller = new_caller()
    for _ in range(10):
        ended_job(caller, JobWebhook(url="http://127.0.0.1:1"))
    (target,) = {str(found) for (found,) in rows("SELECT target FROM webhook_deliveries")}
    assert len(claim_deliveries(most=100, troubled=[], in_trouble=True)) == 0
    assert len(claim_deliveries(most=100, troubled=[target], in_trouble=True)) == 1
    assert len(claim_deliveries(most=100, troubled=[], in_trouble=False)) == 3  # 4 - the one under way


def test_a_start_that_was_tried_waits_for_the_end_and_is_superseded_by_it() -> None:
    caller = new_caller()
    with receiving() as receiver:
        endpoint(caller, receiver)
        ended_job(caller)
        (start,) = claim_deliveries(most=10, troubled=[], in_trouble=False)
        assert start.event == "job.started"
        assert claim_deliveries(most=10, troubled=[], in_trouble=False) == []
        report(start, AttemptResult(latency_ms=1, status_code=500, error="the receiver answered 500"))
        rows("UPDATE webhook_deliveries SET due_at = now() RETURNING id")
        (end,) = claim_deliveries(most=10, troubled=[], in_trouble=False)
    assert end.event == "job.completed"
    assert statuses(caller) == [("job.started", "superseded"), ("job.completed", "pending")]


def test_ended_deliveries_leave_the_log_after_its_days_and_pending_ones_never() -> None:
    caller = new_caller()
    ended_job(caller, JobWebhook(url="http://127.0.0.1:1"))
    ended_job(caller, JobWebhook(url="http://127.0.0.1:2"))
    rows(
        "UPDATE webhook_deliveries SET status = 'failed', ended_at = now() - interval '31 days' "
        "WHERE right(url, 1) = '1' RETURNING id"
    )
    with transaction() as connection:
        delete_old(connection)
    assert [delivery.url for delivery in deliveries(caller)] == ["http://127.0.0.1:2"]
