from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from redis.exceptions import RedisError

from api import rate_counters
from api.rate_counters import Cost, Judgement, Limit, count
from core.redis_address import redis_client
from tests.waiting import wait_until


class Gate:
    """Trips to Redis that wait until they may go on, and fail if they are to."""

    is_exhausted = False

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.is_away = False
        self.trips = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        self.trips += 1
        assert self.opened.wait(10)
        if self.is_away:
            raise RedisError("away")
        yield


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(rate_counters, "redis_patience", lambda: gate)
    monkeypatch.setattr(rate_counters.turns, "patience_s", 10.0)
    return gate


def cost(amount: int, **limits: int) -> Cost:
    return Cost(amount=amount, limits=[Limit(owner="account", name=name, most=most) for name, most in limits.items()])


def counted_behind_one(gate: Gate, costs: list[Cost]) -> list[Judgement | RedisError]:
    """Judgements of costs that came in this order while the first was on its way."""

    def judged(each: Cost) -> Judgement | RedisError:
        try:
            return count(each)
        except RedisError as exc:
            return exc

    with ThreadPoolExecutor(len(costs)) as threads:
        judgements = [threads.submit(judged, costs[0])]
        wait_until(lambda: gate.trips == 1)
        for each in costs[1:]:
            judgements.append(threads.submit(judged, each))
            wait_until(lambda: rate_counters.turns.waiting == len(judgements) - 1)
        gate.opened.set()
        return [each.result() for each in judgements]


def test_costs_that_come_while_one_is_counted_are_judged_in_their_order_in_one_trip(gate: Gate) -> None:
    costs = [cost(1, a=5), cost(3, a=5), cost(2, k=9, a=5), cost(1, k=9, a=5), cost(4, b=4), cost(1, k=9, b=4)]
    judgements = counted_behind_one(gate, costs)
    assert gate.trips == 2
    found = [
        (each.passed, [(stand.limit.name, stand.remaining) for stand in each.counts])
        for each in judgements
        if isinstance(each, Judgement)
    ]
    assert found == [
        (True, [("a", 4)]),
        (True, [("a", 1)]),
        (False, [("k", 9), ("a", 1)]),
        (True, [("k", 8), ("a", 0)]),
        (True, [("b", 0)]),
        (False, [("k", 8), ("b", 0)]),
    ]


def test_without_redis_each_is_told_by_an_error_of_its_own(gate: Gate) -> None:
    gate.is_away = True
    first, *others = counted_behind_one(gate, [cost(1, a=5)] * 3)
    assert gate.trips == 2
    assert all(isinstance(each, RedisError) for each in (first, *others))
    assert others[0] is not others[1]


def test_nobody_waits_behind_the_one_who_tries_whether_redis_is_back(gate: Gate) -> None:
    with ThreadPoolExecutor(1) as threads:
        trying = threads.submit(count, cost(1, a=5))
        wait_until(lambda: gate.trips == 1)
        gate.is_exhausted = True
        with pytest.raises(RedisError, match="a moment ago"):
            count(cost(1, a=5))
        assert not trying.done()
        gate.opened.set()
        assert trying.result().passed


def test_who_waits_too_long_for_a_slow_redis_goes_on_unjudged(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_counters.turns, "patience_s", 0.05)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(count, cost(1, a=5))
        wait_until(lambda: gate.trips == 1)
        with pytest.raises(RedisError, match="in time"):
            count(cost(1, a=5))
        gate.opened.set()
        assert [stand.current for stand in slow.result().counts] == [1]


def test_a_clock_that_is_put_back_loses_no_count_and_locks_nobody_out(gate: Gate) -> None:
    gate.opened.set()
    count(cost(5, a=5))
    [name] = redis_client().keys("inkqueue:counter:*")
    redis_client().hincrby(name, "began_ms", 3_600_000)
    assert not count(cost(1, a=5)).passed
    # The window begins anew then, and once.
    redis_client().hincrby(name, "began_ms", -70_000)
    assert count(cost(1, a=5)).passed


def test_a_counter_is_forgotten_when_nothing_of_it_counts_any_more(gate: Gate) -> None:
    gate.opened.set()
    count(cost(1, a=5))
    [name] = redis_client().keys("inkqueue:counter:*")
    assert 60_000 < redis_client().pttl(name) <= 120_000
