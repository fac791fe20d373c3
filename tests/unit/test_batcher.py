"""What becomes of lines that are given to the batcher."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.clocks import Clock
from tests.desk import Desk
from tests.fakes import FakeRecognizer
from worker.batcher import AdmitReason, BatcherStopped
from worker.recognizer import DeviceLost, RecognizerOutOfMemory


def test_a_line_is_started_read_and_forgotten() -> None:
    desk = Desk(FakeRecognizer())
    desk.submit("a", tokens=2)
    assert (desk.batcher.backlog, desk.batcher.in_rows) == (1, 0)
    desk.turns(1)
    assert (desk.batcher.backlog, desk.batcher.in_rows, desk.read) == (0, 1, [])
    desk.turns(1)
    assert (desk.batcher.in_rows, desk.started, desk.read) == (0, ["a"], ["a"])


def test_a_finished_row_leaves_before_its_batch_ends_and_its_place_is_taken() -> None:
    desk = Desk(FakeRecognizer(rows=2))
    desk.submit("long", tokens=5)
    desk.submit("short", tokens=1)
    desk.submit("next", tokens=1)
    desk.turns(2)
    assert (desk.read, list(desk.recognizer.steps_left)) == (["short", "next"], ["long"])


def test_a_watched_line_is_shown_after_each_step_but_its_last_and_others_never() -> None:
    desk = Desk(FakeRecognizer(rows=2))
    desk.submit("seen", tokens=4, watched=True)
    desk.submit("unseen", tokens=4)
    desk.finish()
    assert desk.settled == [("seen", "t"), ("seen", "te"), ("seen", "tex")]


def test_lines_of_many_jobs_share_a_batch() -> None:
    desk = Desk(FakeRecognizer(rows=3))
    for job_id in ("job_a", "job_b", "job_c"):
        desk.submit(job_id, job_id=job_id)
    desk.turns(1)
    assert desk.observer.groups == [(3, 3, AdmitReason.IDLE)]
    assert desk.observer.steps == [(3, 3)]


def test_why_a_group_was_admitted_is_told() -> None:
    desk = Desk(FakeRecognizer(rows=2))
    desk.submit("first", tokens=3)
    desk.turns(1)
    desk.submit("second", tokens=2)
    desk.turns(2)
    desk.submit("third", alone=True)
    desk.turns(1)
    assert [reason for _, _, reason in desk.observer.groups] == ["idle", "joined", "alone"]


def test_an_interactive_line_finds_a_row_although_bulk_work_could_fill_all() -> None:
    desk = Desk(FakeRecognizer(rows=8))
    for number in range(20):
        desk.submit(f"bulk{number}", tokens=9, priority=2)
    desk.turns(1)
    desk.submit("urgent", priority=0)
    desk.turns(1)
    assert (desk.read, desk.batcher.in_rows) == (["urgent"], 7)


def test_lines_that_nobody_waits_for_wait_for_a_group_that_is_worth_its_time() -> None:
    desk = Desk(FakeRecognizer(rows=4, least_lines=2, most_lines=2))
    for key, tokens in (("a", 2), ("b", 3), ("c", 9), ("d", 9), ("e", 9), ("f", 9)):
        desk.submit(key, tokens=tokens)
    desk.turns(5)
    # the row that is free after two steps waits for the one that is free after three
    assert desk.recognizer.admitted == [("a", "b"), ("c", "d"), ("e", "f")]


def test_no_group_waits_for_the_longest_line_of_the_last_one() -> None:
    desk = Desk(FakeRecognizer(rows=4, least_lines=16))
    for key, tokens in (("a", 9), ("b", 9), ("c", 1), ("d", 1), ("e", 1), ("f", 1), ("g", 1), ("h", 1)):
        desk.submit(key, tokens=tokens)
    desk.turns(3)
    assert desk.recognizer.admitted == [("a", "b", "c", "d"), ("e", "f"), ("g", "h")]


def test_no_group_waits_for_rows_that_interactive_lines_hold() -> None:
    desk = Desk(FakeRecognizer(rows=16, least_lines=16))
    for number in range(10):
        desk.submit(f"urgent{number}", tokens=9, priority=0)
    desk.turns(1)
    for number in range(9):
        desk.submit(f"bulk{number}", priority=2)
    desk.turns(1)
    assert desk.read == [f"bulk{number}" for number in range(6)]


def test_the_last_line_and_an_interactive_one_wait_for_no_group() -> None:
    desk = Desk(FakeRecognizer(rows=4, least_lines=3))
    for key in ("a", "b", "c"):
        desk.submit(key, tokens=9)
    desk.turns(1)
    desk.submit("last", tokens=1)
    desk.turns(1)
    desk.submit("urgent", tokens=1, priority=0)
    desk.submit("bulk0", tokens=1, priority=2)
    desk.submit("bulk1", tokens=1, priority=2)
    desk.turns(1)
    assert (desk.read, desk.recognizer.admitted[1:]) == (["last", "urgent"], [("last",), ("urgent",)])


def test_bulk_lines_are_encoded_for_no_longer_than_steps_are_made_while_somebody_waits() -> None:
    clock = Clock()
    recognizer = FakeRecognizer(
        rows=16, most_lines=1, on_admit=lambda: clock.pass_time(0.5), on_step=lambda: clock.pass_time(0.125)
    )
    desk = Desk(recognizer, clock=clock)
    desk.submit("bulk0", tokens=99, priority=2)
    desk.turns(1)
    desk.submit("urgent", tokens=8, priority=0)
    for number in range(1, 6):
        desk.submit(f"bulk{number}", tokens=99, priority=2)
    while "urgent" not in desk.read:
        desk.turns(1)
    assert recognizer.admitted == [("bulk0",), ("urgent",), ("bulk1",), ("bulk2",)]
    # the first turn; the urgent line's encoding and its 8 steps; a bulk line after every 0.5 s of steps
    assert clock.now_s == 0.625 + 0.5 + 8 * 0.125 + 2 * 0.5
    desk.turns(3)
    assert [group[0] for group in recognizer.admitted[-3:]] == ["bulk3", "bulk4", "bulk5"]


def test_a_line_that_must_be_alone_shares_its_rows_with_nobody() -> None:
    desk = Desk(FakeRecognizer(rows=4))
    desk.submit("before", tokens=2)
    desk.submit("alone", tokens=2, alone=True)
    desk.submit("after")
    desk.finish()
    assert (desk.recognizer.admitted, desk.read) == (
        [("before",), ("alone",), ("after",)],
        ["before", "alone", "after"],
    )
    assert {rows for rows, _ in desk.observer.steps} == {1}


def test_a_canceled_line_ends_without_a_word_wherever_it_is() -> None:
    desk = Desk(FakeRecognizer(rows=2))
    for key in ("in_rows", "stays", "waits"):
        desk.submit(key, tokens=3)
    desk.turns(1)
    desk.batcher.cancel({"in_rows", "waits", "unknown"})
    desk.finish()
    assert (desk.read, desk.failed, desk.started) == (["stays"], {}, ["in_rows", "stays"])


def test_a_line_canceled_during_the_step_that_ends_it_is_not_delivered() -> None:
    desk = Desk(FakeRecognizer(on_step=lambda: desk.batcher.cancel({"a"})))
    desk.submit("a")
    desk.turns(1)
    assert (desk.read, desk.batcher.in_rows) == ([], 0)


def test_a_canceled_key_can_come_again() -> None:
    desk = Desk(FakeRecognizer())
    desk.submit("a", tokens=5)
    desk.turns(1)
    desk.batcher.cancel({"a"})
    desk.submit("a", tokens=1)
    desk.turns(1)
    assert desk.read == ["a"]


def test_a_key_that_is_here_is_refused() -> None:
    desk = Desk(FakeRecognizer())
    desk.submit("a", tokens=2)
    with pytest.raises(ValueError, match="here already"):
        desk.submit("a")
    desk.turns(1)
    with pytest.raises(ValueError, match="here already"):
        desk.submit("a")


def test_an_unreadable_line_fails_and_its_neighbours_are_read() -> None:
    desk = Desk(FakeRecognizer(unreadable={"bad"}))
    for key in ("a", "bad", "b"):
        desk.submit(key)
    desk.turns(1)
    assert (desk.read, list(desk.failed), desk.started) == (["a", "b"], ["bad"], ["a", "bad", "b"])


def test_after_a_failed_step_each_line_runs_alone_and_only_the_guilty_one_fails() -> None:
    desk = Desk(FakeRecognizer(poisonous={"bad"}))
    for key in ("a", "bad", "b"):
        desk.submit(key, tokens=2)
    desk.finish()
    assert (desk.read, list(desk.failed)) == (["a", "b"], ["bad"])
    assert desk.recognizer.admitted == [("a", "bad", "b"), ("a",), ("bad",), ("b",)]


def test_running_out_of_memory_halves_the_rows_and_fails_nobody() -> None:
    desk = Desk(FakeRecognizer(rows=8, memory_rows=3))
    keys = [f"line{number}" for number in range(8)]
    for key in keys:
        desk.submit(key, tokens=2, priority=0)
    desk.finish()
    assert (desk.read, desk.failed, desk.batcher.row_limit) == (keys, {}, 2)
    assert desk.observer.row_limits == [4, 2]


def test_a_step_without_memory_starts_its_lines_again() -> None:
    desk = Desk(FakeRecognizer(rows=4))
    for key in "abcd":
        desk.submit(key, tokens=3)
    desk.turns(1)
    desk.recognizer.memory_rows = 2
    desk.finish()
    assert (desk.read, desk.failed, desk.batcher.row_limit) == (list("abcd"), {}, 2)


def test_a_line_that_runs_out_of_memory_alone_fails() -> None:
    desk = Desk(FakeRecognizer(memory_rows=0))
    desk.submit("a")
    desk.submit("b")
    desk.finish()
    assert {key: type(error) for key, error in desk.failed.items()} == {
        "a": RecognizerOutOfMemory,
        "b": RecognizerOutOfMemory,
    }


def test_lines_whose_start_is_refused_are_given_back() -> None:
    desk = Desk(FakeRecognizer())
    desk.refuse_start = ConnectionError("no database")
    desk.submit("a")
    desk.turns(1)
    assert (desk.failed, desk.recognizer.admitted) == ({"a": desk.refuse_start}, [])


def test_a_callback_that_raises_stops_nothing() -> None:
    desk = Desk(FakeRecognizer())
    desk.read_raises = ConnectionError("no database")
    desk.submit("a")
    desk.submit("b")
    desk.finish()
    assert desk.read == ["a", "b"]


def test_room_is_where_less_than_twice_the_rows_wait() -> None:
    desk = Desk(FakeRecognizer(rows=2))
    for key in "abc":
        desk.submit(key)
    assert desk.batcher.wait_for_room(0.0)
    desk.submit("d")
    assert not desk.batcher.wait_for_room(0.0)
    desk.turns(1)
    assert desk.batcher.wait_for_room(0.0)


def test_stopping_gives_back_what_was_not_read_once_and_refuses_more() -> None:
    desk = Desk(FakeRecognizer(rows=1))
    for key in "abc":
        desk.submit(key, tokens=3)
    desk.turns(1)
    assert [line.key for line in desk.batcher.stop(grace_s=0.0)] == ["a", "b", "c"]
    assert desk.batcher.stop(grace_s=0.0) == []
    assert not desk.batcher.wait_for_room(0.0)
    with pytest.raises(BatcherStopped):
        desk.submit("d")


def test_the_thread_reads_what_several_threads_submit() -> None:
    desk = Desk(FakeRecognizer(rows=4))
    desk.batcher.start()
    keys = [[f"{name}{number}" for number in range(25)] for name in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(desk.submit_all, keys))
    assert desk.wait_for_reads(100)
    assert sorted(desk.read) == sorted(key for part in keys for key in part)
    assert desk.batcher.stop(grace_s=1.0) == []


def test_stopping_lets_lines_in_rows_end_within_the_grace() -> None:
    in_step, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        in_step.set()
        assert go_on.wait(5.0)

    desk = Desk(FakeRecognizer(rows=1, on_step=hold))
    desk.submit("in_rows")
    desk.submit("waits")
    desk.batcher.start()
    assert in_step.wait(5.0)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(desk.batcher.stop, grace_s=5.0)
        go_on.set()
        assert [line.key for line in stopping.result()] == ["waits"]
    assert desk.read == ["in_rows"]


def test_a_device_that_is_lost_in_a_step_fails_no_line() -> None:
    def lose() -> None:
        raise DeviceLost("an illegal address")

    desk = Desk(FakeRecognizer(rows=2, on_step=lose))
    desk.submit_all(["a", "b", "c"])
    with pytest.raises(DeviceLost):
        desk.turns()
    assert (desk.read, desk.failed, desk.batcher.in_rows, desk.batcher.backlog) == ([], {}, 2, 1)


def test_a_device_that_is_lost_while_it_encodes_fails_no_line() -> None:
    def lose() -> None:
        raise DeviceLost("an illegal address")

    desk = Desk(FakeRecognizer(rows=2, on_admit=lose))
    desk.submit_all(["a", "b"])
    with pytest.raises(DeviceLost):
        desk.turns()
    assert (desk.failed, desk.batcher.in_rows) == ({}, 2)


def test_memory_that_runs_out_as_lines_are_canceled_leaves_half_of_the_rows_that_were_in_use() -> None:
    desk = Desk(FakeRecognizer(rows=4, memory_rows=3, on_admit=lambda: desk.batcher.cancel("abcd")))
    desk.submit_all("abcd")
    desk.turns(1)
    assert (desk.batcher.row_limit, desk.batcher.in_rows, desk.batcher.backlog) == (2, 0, 0)


def test_rows_that_are_lost_as_a_canceled_line_leaves_are_read_again() -> None:
    def break_once() -> None:
        if not broken:
            broken.append(True)
            raise ValueError("broken")

    broken: list[bool] = []
    recognizer = FakeRecognizer(rows=4, on_drop=break_once)
    desk = Desk(recognizer)
    desk.submit_all("abc")
    desk.turns(1)
    desk.batcher.cancel({"a"})
    desk.submit("d", priority=0)
    desk.finish()
    assert (sorted(desk.read), desk.failed) == (["b", "c", "d"], {})


def test_a_text_that_cannot_be_shown_costs_nothing_else() -> None:
    def fail() -> None:
        raise ValueError("no text")

    desk = Desk(FakeRecognizer(rows=2, on_settled=fail))
    desk.submit("seen", tokens=3, watched=True)
    desk.submit("other", tokens=3)
    desk.finish()
    assert (sorted(desk.read), desk.failed, desk.settled) == (["other", "seen"], {}, [])


def test_a_line_canceled_during_a_step_that_fails_is_not_read_again() -> None:
    desk = Desk(FakeRecognizer(poisonous={"bad"}, on_step=lambda: desk.batcher.cancel({"a"})))
    for key in ("a", "bad", "b"):
        desk.submit(key, tokens=2)
    desk.finish()
    assert (desk.read, list(desk.failed)) == (["b"], ["bad"])
