"""In which order waiting lines are taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import line_of
from worker.line_queue import LineQueue, QueuedLine, WaitingLine


def waiting(key: str, *, priority: int = 1, job_id: str = "job_a", alone: bool = False, beams: int = 1) -> WaitingLine:
    line = QueuedLine(key=key, request=line_of(1, beams=beams), priority=priority, job_id=job_id, alone=alone)
    return WaitingLine(line=line, since=0.0)


def queue_of(*lines: WaitingLine) -> LineQueue:
    queue = LineQueue()
    for line in lines:
        queue.push(line)
    return queue


def taken(
    queue: LineQueue, *, free_rows: int = 9, shared_rows: int = 9, rows_in_use: int = 0, most_lines: int = 9
) -> str:
    group = queue.take(free_rows=free_rows, shared_rows=shared_rows, rows_in_use=rows_in_use, most_lines=most_lines)
    return " ".join(line.line.key for line in group)


def test_the_more_urgent_line_goes_first() -> None:
    queue = queue_of(waiting("bulk", priority=2), waiting("normal", priority=1), waiting("interactive", priority=0))
    assert taken(queue) == "interactive normal bulk"


def test_jobs_of_one_priority_take_turns_and_each_keeps_its_order() -> None:
    a = [waiting(f"a{n}", job_id="job_a") for n in range(3)]
    b = [waiting(f"b{n}", job_id="job_b") for n in range(2)]
    assert taken(queue_of(*a, *b)) == "a0 b0 a1 b1 a2"


def test_turns_go_on_from_one_group_to_the_next() -> None:
    queue = queue_of(*(waiting(f"{job}{n}", job_id=job) for job in "abc" for n in range(2)))
    assert [taken(queue, free_rows=2) for _ in range(3)] == ["a0 b0", "c0 a1", "b1 c1"]


@pytest.mark.parametrize("most", range(10))
def test_the_lines_that_come_next_are_told_in_order_and_stay(most: int) -> None:
    lines = [waiting(f"{job}{n}", priority=1 - n % 2, job_id=job) for job in "abc" for n in range(2)]
    queue = queue_of(*lines, waiting("a2"), waiting("a3"))
    told = [line.line.key for line in queue.next_lines(most)]
    assert len(queue) == 8
    assert " ".join(told) == taken(queue, most_lines=most)


@pytest.mark.parametrize("alone", [waiting("x", alone=True), replace(waiting("x"), second_try=True)])
def test_of_the_lines_that_come_next_none_is_told_behind_one_that_must_be_alone(alone: WaitingLine) -> None:
    queue = queue_of(waiting("a"), alone, waiting("b"), waiting("bulk", priority=2))
    assert [line.line.key for line in queue.next_lines(4)] == ["a"]


@pytest.mark.parametrize(
    ("free_rows", "shared_rows", "expected"),
    [
        (3, 3, "i0 i1 n0"),
        (3, 0, "i0 i1"),  # what is left is kept for interactive lines
        (1, 1, "i0"),
        (4, 1, "i0 i1 n0"),
        (0, 0, ""),
    ],
)
def test_lines_that_nobody_waits_for_leave_rows_free(free_rows: int, shared_rows: int, expected: str) -> None:
    lines = [waiting("i0", priority=0), waiting("i1", priority=0), waiting("n0"), waiting("n1")]
    assert taken(queue_of(*lines), free_rows=free_rows, shared_rows=shared_rows, rows_in_use=1) == expected


def test_a_group_is_no_larger_than_is_good() -> None:
    queue = queue_of(*(waiting(key) for key in "abc"))
    assert [taken(queue, most_lines=2), taken(queue, most_lines=2)] == ["a b", "c"]


def test_each_beam_takes_a_row() -> None:
    queue = queue_of(waiting("a", beams=4), waiting("b", beams=4), waiting("c"))
    assert [taken(queue, free_rows=7, rows_in_use=1), taken(queue, free_rows=7, rows_in_use=1)] == ["a", "b c"]


def test_more_beams_than_rows_wait_for_empty_rows_and_keep_those_behind_them_waiting() -> None:
    queue = queue_of(waiting("many", beams=10), waiting("last"))
    taken_with = [taken(queue, free_rows=8 - used, rows_in_use=used) for used in (1, 0, 0)]
    assert taken_with == ["", "many", "last"]


def test_a_line_that_must_be_alone_waits_for_empty_rows_and_keeps_those_behind_it_waiting() -> None:
    queue = queue_of(waiting("first"), waiting("alone", alone=True), waiting("last"))
    assert [taken(queue, rows_in_use=used) for used in (0, 1, 0, 0)] == ["first", "", "alone", "last"]


def test_a_line_put_back_is_the_next_of_its_priority() -> None:
    queue = queue_of(waiting("a", job_id="job_a"), waiting("b", job_id="job_b"))
    queue.push_front(waiting("back", job_id="job_c"))
    queue.push(waiting("interactive", priority=0))
    assert taken(queue) == "interactive back a b"


def test_discarded_lines_are_gone() -> None:
    queue = queue_of(waiting("a"), waiting("b"), waiting("c", job_id="job_c"))
    queue.discard({"a", "c", "unknown"})
    assert (len(queue), "a" in queue, taken(queue)) == (1, False, "b")


def test_draining_takes_every_line() -> None:
    queue = queue_of(waiting("a"), waiting("alone", alone=True), waiting("urgent", priority=0))
    assert [line.line.key for line in queue.drain()] == ["urgent", "a", "alone"]
    assert len(queue) == 0


@pytest.mark.parametrize(("priority", "most_urgent"), [(1, 0), (2, 0), (2, 1)])
def test_a_line_that_more_urgent_ones_keep_from_its_rows_for_long_goes_before_all(
    priority: int, most_urgent: int
) -> None:
    queue = queue_of(waiting("many", beams=4, priority=priority))
    order = []
    for now in (0.0, 9.9, 10.0):
        queue.push(waiting(f"urgent{now}", priority=most_urgent))
        order.append(taken(queue, free_rows=3, rows_in_use=1))
        queue.hold_back(most_urgent=most_urgent, now=now)
    queue.push(waiting("late", priority=most_urgent))
    order += [taken(queue, free_rows=3, rows_in_use=1), taken(queue, free_rows=4, rows_in_use=1), taken(queue)]
    assert order == ["urgent0.0", "urgent9.9", "urgent10.0", "", "many", "late"]


@pytest.mark.parametrize("line", [waiting("one"), waiting("many", beams=4, priority=0)])
def test_a_line_for_a_single_row_or_as_urgent_as_those_in_rows_stays_where_it_is(line: WaitingLine) -> None:
    queue = queue_of(line)
    for now in (0.0, 99.0):
        queue.hold_back(most_urgent=0, now=now)
    queue.push(waiting("urgent", priority=0, job_id="job_0"))
    assert taken(queue, free_rows=1, rows_in_use=1) == ("urgent" if line.line.key == "one" else "")


def test_a_line_that_comes_again_is_not_kept_waiting_since_its_first_time() -> None:
    queue = queue_of(waiting("alone", alone=True))
    queue.hold_back(most_urgent=0, now=0.0)
    queue.discard({"alone"})
    queue.push(waiting("alone", alone=True))
    queue.hold_back(most_urgent=0, now=10.0)
    queue.push(waiting("urgent", priority=0))
    assert taken(queue, rows_in_use=1) == "urgent"
