from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from core.shared_turns import SharedTurns
from tests.waiting import wait_until


class Refused(Exception):
    """What one item is answered with."""


class Bell:
    """Work that waits, the first time, until it is let go; it answers with the items tenfold."""

    def __init__(self) -> None:
        self.groups: list[Sequence[int]] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def work(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(items)
        self.begun.set()
        assert self.go_on.wait(10)
        return [Refused(item) if item < 0 else 10 * item for item in items]


def asked_at_once(
    threads: ThreadPoolExecutor, turns: SharedTurns[int, int], bell: Bell, items: Sequence[int]
) -> list[Future[int]]:
    """The first item has its turn while the others come, one after another."""
    asked = [threads.submit(turns.do, items[0])]
    assert bell.begun.wait(10)
    for waiting, item in enumerate(items[1:], start=1):
        asked.append(threads.submit(turns.do, item))
        wait_until(lambda waiting=waiting: turns.waiting == waiting)  # type: ignore[misc]
    bell.go_on.set()
    return asked


def test_who_comes_alone_has_a_turn_alone() -> None:
    bell = Bell()
    bell.go_on.set()
    turns = SharedTurns(bell.work, most=8)
    assert [turns.do(1), turns.do(2)] == [10, 20]
    assert bell.groups == [[1], [2]]


def test_all_who_come_during_a_turn_share_the_next_in_their_order() -> None:
    bell = Bell()
    turns = SharedTurns(bell.work, most=8)
    with ThreadPoolExecutor(5) as threads:
        asked = asked_at_once(threads, turns, bell, range(5))
        assert [each.result(10) for each in asked] == [0, 10, 20, 30, 40]
    assert bell.groups == [[0], [1, 2, 3, 4]]
    assert turns.waiting == 0


def test_a_turn_has_so_many_at_most() -> None:
    bell = Bell()
    turns = SharedTurns(bell.work, most=2)
    with ThreadPoolExecutor(6) as threads:
        asked = asked_at_once(threads, turns, bell, range(6))
        assert [each.result(10) for each in asked] == [0, 10, 20, 30, 40, 50]
    assert bell.groups == [[0], [1, 2], [3, 4], [5]]


def test_an_exception_among_the_answers_is_for_its_asker_alone() -> None:
    bell = Bell()
    turns = SharedTurns(bell.work, most=8)
    with ThreadPoolExecutor(4) as threads:
        before, good, bad, after = asked_at_once(threads, turns, bell, [0, 1, -2, 3])
        with pytest.raises(Refused, match="-2"):
            bad.result(10)
        assert [before.result(10), good.result(10), after.result(10)] == [0, 10, 30]


@pytest.mark.parametrize("failure", [ValueError("all of it"), SystemExit("even so")])
def test_a_turn_that_fails_fails_for_all_and_the_next_one_does_not(failure: BaseException) -> None:
    failures = iter([failure])
    bell = Bell()

    def work(items: Sequence[int]) -> Sequence[int | Exception]:
        answers = bell.work(items)
        if len(items) > 1 and (raised := next(failures, None)):
            raise raised
        return answers

    turns = SharedTurns(work, most=8)
    with ThreadPoolExecutor(3) as threads:
        first, *others = asked_at_once(threads, turns, bell, [0, 1, 2])
        assert first.result(10) == 0
        for each in others:
            assert each.exception(10) is failure
    assert turns.do(4) == 40
