from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from core.shared_turns import NotDone, SharedTurns
from tests.waiting import wait_until


class Refused(Exception):
    """What one item is answered with."""


class Bell:
    """Work that waits, each time, until it is let go; it answers with the items tenfold."""

    def __init__(self) -> None:
        self.groups: list[Sequence[int]] = []
        self._may_end = threading.Semaphore(0)

    def let_go(self, turns: int = 1000) -> None:
        self._may_end.release(turns)

    def work(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(items)
        assert self._may_end.acquire(timeout=10)
        return [Refused(item) if item < 0 else 10 * item for item in items]


def turns_of(bell: Bell, *, most: int = 8, patience_s: float = 10.0) -> SharedTurns[int, int]:
    return SharedTurns(bell.work, size=lambda _: 1, most=most, patience_s=patience_s)


def asked_at_once(
    threads: ThreadPoolExecutor, turns: SharedTurns[int, int], bell: Bell, items: Sequence[int]
) -> list[Future[int]]:
    """The first item has its turn while the others come, one after another."""
    asked = [threads.submit(turns.do, items[0])]
    wait_until(lambda: bell.groups)
    for waiting, item in enumerate(items[1:], start=1):
        asked.append(threads.submit(turns.do, item))
        wait_until(lambda waiting=waiting: turns.waiting == waiting)  # type: ignore[misc]
    return asked


def test_who_comes_alone_has_a_turn_alone() -> None:
    bell = Bell()
    bell.let_go()
    turns = turns_of(bell)
    assert [turns.do(1), turns.do(2)] == [10, 20]
    assert bell.groups == [[1], [2]]


def test_all_who_come_during_a_turn_share_the_next_in_their_order() -> None:
    bell = Bell()
    turns = turns_of(bell)
    with ThreadPoolExecutor(5) as threads:
        asked = asked_at_once(threads, turns, bell, range(5))
        bell.let_go()
        assert [each.result(10) for each in asked] == [0, 10, 20, 30, 40]
    assert bell.groups == [[0], [1, 2, 3, 4]]
    assert turns.waiting == 0


def test_a_turn_takes_no_more_than_fits() -> None:
    bell = Bell()
    turns = SharedTurns(bell.work, size=lambda item: item, most=6, patience_s=10.0)
    with ThreadPoolExecutor(7) as threads:
        asked = asked_at_once(threads, turns, bell, [1, 2, 3, 4, 9, 1, 5])
        bell.let_go()
        assert [each.result(10) for each in asked] == [10, 20, 30, 40, 90, 10, 50]
    assert bell.groups == [[1], [2, 3], [4], [9], [1, 5]]


def test_who_was_answered_does_not_wait_for_the_next_turn() -> None:
    bell = Bell()
    turns = turns_of(bell, most=2)
    with ThreadPoolExecutor(5) as threads:
        asked = asked_at_once(threads, turns, bell, range(5))
        bell.let_go(2)
        assert [each.result(10) for each in asked[:3]] == [0, 10, 20]
        wait_until(lambda: len(bell.groups) == 3)
        assert not asked[3].done()
        bell.let_go(1)
        assert [each.result(10) for each in asked[3:]] == [30, 40]


def test_an_exception_among_the_answers_is_for_its_asker_alone() -> None:
    bell = Bell()
    turns = turns_of(bell)
    with ThreadPoolExecutor(4) as threads:
        before, good, bad, after = asked_at_once(threads, turns, bell, [0, 1, -2, 3])
        bell.let_go()
        with pytest.raises(Refused, match="-2"):
            bad.result(10)
        assert [before.result(10), good.result(10), after.result(10)] == [0, 10, 30]


def test_who_waits_for_too_long_is_told_so_and_forgotten() -> None:
    bell = Bell()
    turns = turns_of(bell, patience_s=0.05)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(turns.do, 1)
        wait_until(lambda: bell.groups)
        assert isinstance(threads.submit(turns.do, 2).exception(10), NotDone)
        assert turns.waiting == 0
        bell.let_go()
        assert first.result(10) == 10
    assert turns.do(3) == 30
    assert bell.groups == [[1], [3]]


@pytest.mark.parametrize("failure", [ValueError("all of it"), SystemExit("even so"), "one answer too few"])
def test_a_turn_that_fails_is_its_own_threads_failure_and_nobody_waits_for_ever(failure: BaseException | str) -> None:
    bell = Bell()

    def work(items: Sequence[int]) -> Sequence[int | Exception]:
        answers = bell.work(items)
        if len(items) == 1:
            return answers
        if isinstance(failure, BaseException):
            raise failure
        return answers[:-1]

    turns = SharedTurns(work, size=lambda _: 1, most=8, patience_s=10.0)
    with ThreadPoolExecutor(4) as threads:
        first, leader, *others = asked_at_once(threads, turns, bell, [0, 1, 2, 3])
        bell.let_go()
        assert first.result(10) == 0
        assert isinstance(leader.exception(10), ValueError | SystemExit)
        assert isinstance(others[-1].exception(10), NotDone)
    assert turns.do(4) == 40


def test_what_was_refused_is_not_kept_in_memory() -> None:
    class Item:
        """What may be forgotten."""

    turns: SharedTurns[Item, int] = SharedTurns(
        lambda items: [Refused() for _ in items], size=lambda _: 1, most=8, patience_s=10.0
    )

    def refused() -> weakref.ref[Item]:
        item = Item()
        with pytest.raises(Refused):
            turns.do(item)
        return weakref.ref(item)

    gc.disable()
    try:
        assert refused()() is None
    finally:
        gc.enable()
