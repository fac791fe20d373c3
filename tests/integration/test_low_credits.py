"""The warning that credits run low: once for each fall of a balance below its account's threshold."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from core import claims, credits, low_credits, notices, outcomes
from core.accounts import Caller
from core.amounts import CREDIT_MICRO
from core.credits import Entry, EntryKind
from core.database import transaction
from core.jobs import cancel
from core.webhook_events import EventType
from tests.domain import MODEL, new_caller, read, rows, submit_lines
from tests.receiver import receiving, status
from tests.waiting import wait_until
from tests.webhook_domain import endpoint

pytestmark = pytest.mark.usefixtures("webhooks_to_here")


@pytest.fixture
def caller() -> Iterator[Caller]:
    """An account of 40 credits that wants to be told below 20."""
    caller = new_caller(grant_credits=40)
    with transaction() as connection:
        low_credits.set_threshold(connection, caller.account_id, 20 * CREDIT_MICRO)
    with receiving() as receiver:
        endpoint(caller, receiver, events=[EventType.CREDITS_LOW])
        yield caller


def spend(caller: Caller, lines: int) -> None:
    submit_lines(caller, lines)
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=lines)])


def grant(caller: Caller, amount: int) -> None:
    with transaction() as connection:
        credits.grant(connection, account_id=caller.account_id, amount_micro=amount * CREDIT_MICRO, reason="test")


def told() -> list[Any]:
    """The balances that were told, oldest first."""
    return [balance for (balance,) in rows("SELECT (data->>'balance')::float FROM webhook_deliveries ORDER BY id")]


def test_it_is_told_when_the_balance_has_fallen_below_the_threshold_and_not_before(caller: Caller) -> None:
    spend(caller, 20)
    assert told() == []
    spend(caller, 1)
    assert told() == [19]


def test_couriers_are_told_at_once(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    channels: list[str] = []
    monkeypatch.setattr(notices, "notify", lambda channel, words: channels.extend([channel] if words else []))
    spend(caller, 20)
    assert notices.WEBHOOKS_DUE not in channels
    spend(caller, 1)
    assert notices.WEBHOOKS_DUE in channels


def test_what_falls_further_is_not_told_again(caller: Caller) -> None:
    for _ in range(4):
        spend(caller, 10)
    assert told() == [10]


def test_a_grant_above_the_threshold_arms_it_again_and_one_below_does_not(caller: Caller) -> None:
    spend(caller, 35)
    grant(caller, 10)
    spend(caller, 1)
    assert told() == [5]
    grant(caller, 10)
    spend(caller, 5)
    assert told() == [5, 19]
    assert rows("SELECT count(DISTINCT event_id) FROM webhook_deliveries") == [(2,)]


def test_a_hold_is_no_fall(caller: Caller) -> None:
    cancel(caller, submit_lines(caller, 30))
    assert told() == []


def test_credits_that_expire_are_one(caller: Caller) -> None:
    with transaction() as connection:
        connection.execute(text("UPDATE credit_grants SET expires_at = now()"))
        credits.settle(connection, caller.account_id)
    assert told() == [0]


def test_of_many_captures_at_once_one_tells_and_with_the_balance_of_its_own_entry(caller: Caller) -> None:
    submit_lines(caller, 40)
    ended = [read(found) for found in claims.claim("wrk_1", MODEL, most=40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda outcome: outcomes.finish([outcome]), ended))
    assert rows("SELECT balance_micro FROM accounts") == [(0,)]
    assert told() == [19]


def test_a_stranger_is_not_told(caller: Caller) -> None:
    spend(new_caller("stranger", grant_credits=100), 100)
    assert rows("SELECT balance_micro FROM accounts WHERE id <> :id", id=caller.account_id) == [(0,)]
    assert told() == []


def test_what_is_rolled_back_with_its_entry_is_not_told(caller: Caller) -> None:
    entry = Entry(account_id=caller.account_id, kind=EntryKind.ADJUST, amount_micro=-30 * CREDIT_MICRO)
    with suppress(ZeroDivisionError), transaction() as connection:
        credits.post(connection, [entry])
        raise ZeroDivisionError
    assert told() == []
    spend(caller, 21)
    assert told() == [19]


def test_without_a_threshold_of_its_own_an_account_has_the_services(caller: Caller) -> None:
    with transaction() as connection:
        low_credits.set_threshold(connection, caller.account_id, None)
    grant(caller, 60)
    spend(caller, 1)
    assert told() == [99]


def test_an_account_without_a_threshold_is_never_told(caller: Caller) -> None:
    with transaction() as connection:
        low_credits.set_threshold(connection, caller.account_id, 0)
    spend(caller, 40)
    assert told() == []


@pytest.mark.parametrize("change", ["events = '{job.started}'", "disabled_at = now()"])
def test_an_endpoint_that_does_not_want_it_is_not_told(caller: Caller, change: str) -> None:
    with transaction() as connection:
        connection.execute(text(f"UPDATE webhook_endpoints SET {change}"))
    spend(caller, 40)
    assert rows("SELECT count(*) FROM webhook_deliveries WHERE event = 'credits.low'") == [(0,)]


@pytest.mark.usefixtures("courier")
def test_it_arrives_signed_under_one_id_at_every_endpoint_however_often_it_is_tried(caller: Caller) -> None:
    with receiving(status(500, 200)) as first, receiving() as second:
        secrets = [endpoint(caller, receiver, events=[EventType.CREDITS_LOW])[1] for receiver in (first, second)]
        submit_lines(caller, 3)
        spend(caller, 25)
        wait_until(lambda: len(first.requests) == 2 and second.requests)
        contents = [first.requests[1].verified(secrets[0]), second.requests[0].verified(secrets[1])]
        assert len({request.webhook_id for request in first.requests + second.requests}) == 1
    assert contents[0] == contents[1]
    assert contents[0]["type"] == "credits.low"
    assert contents[0]["data"] == {
        "id": caller.account_id,
        "object": "credits",
        "balance": 15,
        "held": 3,
        "available": 12,
        "threshold": 20,
    }
