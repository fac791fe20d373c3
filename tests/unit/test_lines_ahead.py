"""Which lines are encoded beside the steps of others, before there are rows for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.desk import Desk
from tests.fakes import FakeRecognizer
from tests.waiting import wait_until
from worker.batcher import BatcherStopped
from worker.recognizer import RecognizerOutOfMemory


def prepared(desk: Desk) -> list[str]:
    """The keys of the lines that are being encoded ahead; each must have been started."""
    keys = {id(line.request): line.key for line in desk.started_lines}
    return [keys[id(request)] for request in desk.recognizer.prepared]


def submit_seven_and_the_next(desk: Desk) -> None:
    """Seven lines, of which the first ends soon, and one behind them."""
    for key in "abcdefg":
        desk.submit(key, tokens=2 if key == "a" else 9)
    desk.submit("next", tokens=9)


def test_the_lines_that_come_next_are_started_and_encoded_beside_the_steps() -> None:
    desk = Desk(FakeRecognizer(rows=2, lines_ahead=2))
    desk.submit_all("abcde")
    desk.turns()
    assert (desk.recognizer.admitted, prepared(desk), desk.started) == ([("a", "b")], ["c", "d"], list("abcd"))
    desk.turns(3)
    assert (desk.recognizer.admitted, prepared(desk)) == ([("a", "b"), ("c", "d")], ["e"])
    desk.finish()
    assert desk.read == list("abcde")


def test_a_recognizer_that_wants_none_is_told_of_none() -> None:
    desk = Desk(FakeRecognizer(rows=1))
    desk.submit_all("ab")
    desk.turns()
    assert (desk.recognizer.prepared, desk.started) == ([], ["a"])


def test_lines_are_started_once_while_they_wait() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1))
    desk.submit_all("ab")
    desk.turns(3)
    assert desk.started == ["a", "b"]


def test_as_lines_are_admitted_others_are_begun_in_their_place() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=2))
    desk.submit("a")
    for key in "bcde":
        desk.submit(key, tokens=2)
    ahead = []
    while desk.batcher.backlog:
        desk.turns()
        ahead.append(prepared(desk))
    assert ahead[:3] == [["b", "c"], ["c", "d"], ["c", "d"]]


def test_a_canceled_line_is_forgotten_for_the_next_one() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1))
    desk.submit_all("abc")
    desk.turns()
    desk.batcher.cancel(["b"])
    desk.turns()
    assert prepared(desk) == ["c"]


@pytest.mark.parametrize("priority", [0, 1])
def test_what_was_begun_and_canceled_is_not_kept_when_the_last_rows_are_free(priority: int) -> None:
    desk = Desk(FakeRecognizer(rows=2, lines_ahead=1, most_lines=1))
    desk.submit("a", tokens=2)
    desk.turns()
    desk.submit("last", tokens=2)
    desk.submit("b", tokens=2)
    desk.turns()
    assert prepared(desk) == ["b"]
    desk.submit("waits for an answer", priority=priority)
    desk.batcher.cancel(["b"])
    desk.finish()
    assert desk.recognizer.prepared == []


def test_what_was_begun_is_not_kept_when_it_is_canceled_while_nothing_is_read() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1))
    desk.submit_all("ab")
    desk.turns(3)
    assert (desk.read, prepared(desk)) == (["a"], ["b"])
    desk.batcher.cancel(["b"])
    desk.batcher.start()
    try:
        wait_until(lambda: not desk.recognizer.prepared)
    finally:
        desk.batcher.stop(0.0)


def bulk_lines_begun(*, steps: int) -> Desk:
    """Lines "b" and "c" are encoded beside the steps of "a"."""
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=2))
    desk.submit("a", tokens=steps, priority=2)
    desk.submit("b", priority=2)
    desk.submit("c", priority=2)
    desk.turns()
    return desk


def test_what_a_few_more_urgent_lines_overtake_stays_begun() -> None:
    desk = bulk_lines_begun(steps=5)
    desk.submit("urgent", priority=1)
    desk.turns()
    assert sorted(prepared(desk)) == ["b", "c", "urgent"]
    desk.batcher.cancel(["b"])
    desk.turns()
    assert sorted(prepared(desk)) == ["c", "urgent"]


def test_what_many_more_urgent_lines_overtake_is_dropped_for_them() -> None:
    desk = bulk_lines_begun(steps=2)
    for key in "uvwx":
        desk.submit(key, tokens=3)
    desk.turns(2)
    assert prepared(desk) == ["v", "w"]


def test_nothing_new_is_begun_beside_steps_that_somebody_waits_for() -> None:
    desk = Desk(FakeRecognizer(rows=9, lines_ahead=1, most_lines=1))
    desk.submit("a", tokens=9)
    desk.submit("waits for an answer", tokens=2, priority=0)
    desk.submit_all("bc")
    desk.turns()
    assert (desk.recognizer.admitted, prepared(desk)) == ([("waits for an answer",)], [])


def test_while_somebody_waits_for_the_steps_what_was_begun_stays_and_nothing_is_begun() -> None:
    wanted: list[int] = []
    desk = Desk(FakeRecognizer(rows=8, lines_ahead=2, on_want=lambda: wanted.append(1)))
    for key in "abcdefg":
        desk.submit(key, tokens=9)
    desk.submit_all("hi")
    desk.turns()
    before = len(wanted)
    desk.submit("waits for an answer", tokens=3, priority=0)
    desk.submit("j", tokens=3)
    desk.turns(1)
    assert (prepared(desk), len(wanted)) == (["h", "i"], before)
    desk.batcher.cancel(["h"])
    desk.turns()
    assert (prepared(desk), len(wanted)) == (["i"], before)
    desk.turns(2)
    assert ("waits for an answer" in desk.read, prepared(desk)) == (True, ["i", "j"])


def test_a_line_that_must_be_alone_has_nothing_encoded_beside_it_or_begun_behind_it() -> None:
    beside: dict[tuple[str, ...], int] = {}

    def note() -> None:
        beside[tuple(recognizer.steps_left) or ("admitting",)] = len(recognizer.prepared)

    recognizer = FakeRecognizer(rows=1, lines_ahead=2, on_step=note, on_admit=note)
    desk = Desk(recognizer)
    desk.submit("first", tokens=2)
    desk.submit("a", tokens=2)
    desk.submit("suspect", tokens=2, alone=True)
    desk.submit("behind it")
    while "suspect" not in desk.read:
        desk.turns()
    assert beside == {("first",): 1, ("a",): 0, ("suspect",): 0, ("admitting",): 0}


def test_a_line_that_becomes_a_suspect_while_others_are_encoded_is_admitted_without_them() -> None:
    ahead: list[int] = []
    recognizer = FakeRecognizer(rows=1, lines_ahead=2, on_admit=lambda: ahead.append(len(recognizer.prepared)))
    desk = Desk(recognizer)
    desk.submit("first", tokens=2)
    desk.submit("a", priority=2)
    desk.turns()
    desk.submit("suspect", alone=True)
    desk.finish()
    assert (desk.read, ahead) == (["first", "suspect", "a"], [0, 0, 0])


def test_beside_the_second_try_of_a_line_whose_step_failed_nothing_is_encoded() -> None:
    beside: list[tuple[list[str], int]] = []
    recognizer = FakeRecognizer(
        rows=1,
        lines_ahead=1,
        poisonous={"bad"},
        on_step=lambda: beside.append((list(recognizer.steps_left), len(recognizer.prepared))),
    )
    desk = Desk(recognizer)
    desk.submit_all(["bad", "a"])
    desk.turns(2)
    assert beside == [(["bad"], 1), (["bad"], 0)]
    desk.finish()
    assert (desk.read, list(desk.failed)) == (["a"], ["bad"])


@pytest.mark.parametrize("again", [False, True])
def test_before_a_line_that_must_be_alone_is_admitted_all_encodings_have_ended(again: bool) -> None:
    forgotten: dict[tuple[str, ...], int] = {}
    ahead = None

    def note() -> None:
        assert ahead is not None
        forgotten[recognizer.admitted[-1]] = ahead.forgotten

    recognizer = FakeRecognizer(rows=1, lines_ahead=1, poisonous={"bad"} if again else (), on_step=note)
    ahead = recognizer.ahead
    desk = Desk(recognizer)
    desk.submit("a", tokens=2)
    desk.turns()
    desk.submit("bad", alone=not again)
    desk.submit("b")
    desk.finish()
    # Once before "bad" in either case; when it was tried first without being suspected, that was before.
    assert forgotten == {("a",): 0, ("bad",): 1, ("b",): 1}


def test_lines_that_had_no_memory_as_they_were_admitted_were_not_ahead() -> None:
    desk = Desk(FakeRecognizer(rows=2, lines_ahead=1))
    desk.submit("a", tokens=2)
    desk.submit("b", tokens=9)
    desk.turns()
    desk.submit("c")
    desk.turns()
    assert prepared(desk) == ["c"]
    desk.recognizer.memory_rows = 1
    desk.turns()
    assert desk.observer.row_limits == [1]


def test_lines_whose_start_was_refused_are_not_ahead() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1))
    desk.submit("a", tokens=9)
    desk.turns()
    desk.refuse_start = OSError("no")
    desk.submit("refused")
    desk.turns()
    desk.recognizer.memory_rows = 0
    desk.turns()
    assert list(desk.failed) == ["a"]


def test_a_second_try_is_not_encoded_beside_a_more_urgent_line_that_goes_before_it() -> None:
    beside: list[tuple[list[str], int]] = []
    recognizer = FakeRecognizer(
        rows=8, lines_ahead=1, on_step=lambda: beside.append((list(recognizer.steps_left), len(recognizer.prepared)))
    )
    desk = Desk(recognizer)
    submit_seven_and_the_next(desk)
    desk.turns(2)
    desk.submit("waits for an answer", tokens=9, priority=0)
    desk.turns(2)
    assert "next" in recognizer.steps_left
    recognizer.poisonous = {"waits for an answer"}
    desk.batcher.cancel(["waits for an answer"])
    desk.submit("waits too", tokens=2, priority=0)
    recognizer.poisonous = {"b"}
    beside.clear()
    desk.turns()
    recognizer.poisonous = set()
    desk.turns(2)
    assert beside[1:] == [(["waits too"], 0), (["waits too"], 0)]


def test_rows_are_halved_for_memory_that_runs_out_when_nothing_is_encoded_ahead_any_more() -> None:
    desk = Desk(FakeRecognizer(rows=8, lines_ahead=2))
    submit_seven_and_the_next(desk)
    desk.turns(3)
    assert ("next" in desk.recognizer.steps_left, desk.recognizer.prepared) == (True, [])
    desk.recognizer.memory_rows = 6
    desk.turns()
    assert desk.batcher.row_limit == 3


def test_a_line_whose_start_is_refused_is_not_encoded_ahead_and_fails_in_its_turn() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=2))
    desk.submit("a", tokens=4)
    desk.turns()
    desk.refuse_start = OSError("no")
    desk.submit("refused")
    desk.turns(2)
    assert (desk.recognizer.prepared, desk.failed, desk.started) == ([], {}, ["a", "refused"])
    desk.refuse_start = None
    desk.submit("b")
    desk.turns()
    assert (prepared(desk), desk.started) == (["b"], ["a", "refused", "b"])
    desk.refuse_start = OSError("no")
    desk.finish()
    assert (desk.read, list(desk.failed)) == (["a"], ["refused", "b"])


def test_memory_that_runs_out_beside_an_encoding_costs_no_row_and_ends_the_encoding_ahead() -> None:
    desk = Desk(FakeRecognizer(rows=2, lines_ahead=2, memory_rows=3))
    desk.submit_all("abcdefgh")
    desk.finish()
    assert (sorted(desk.read), desk.failed) == (list("abcdefgh"), {})
    assert desk.observer.row_limits == [2]


def test_when_memory_has_sufficed_for_long_lines_are_encoded_ahead_again() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1, memory_rows=1))
    for number in range(128):
        desk.submit(f"line{number}")
    desk.submit_all("ab")
    desk.recognizer.memory_rows = 1
    desk.turns()
    assert desk.observer.row_limits == [1]
    desk.recognizer.memory_rows = 2
    while len(desk.read) < 127:
        desk.turns()
        assert desk.recognizer.prepared == []
    desk.turns(2)
    assert prepared(desk) == ["b"]


def test_a_line_for_which_there_is_no_memory_fails_whatever_was_encoded_beside_it() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1))
    desk.submit_all("ab")
    desk.turns()
    desk.recognizer.memory_rows = 0
    desk.finish()
    assert {type(error) for error in desk.failed.values()} == {RecognizerOutOfMemory}
    assert list(desk.failed) == ["a", "b"]


def test_lines_that_will_not_be_admitted_are_not_encoded_while_it_stops() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1))
    desk.submit_all("ab")
    desk.turns()
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(desk.batcher.stop, 20.0)
        wait_until(lambda: is_stopped(desk))
        desk.turns()
        assert (desk.read, desk.recognizer.prepared, desk.started) == ([], [], ["a", "b"])
        desk.turns()
        assert [line.key for line in stopping.result(20)] == ["b"]
    assert desk.read == ["a"]


def test_nothing_is_encoded_any_more_when_it_has_stopped() -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1))
    desk.submit("a", tokens=10**9)
    desk.submit("b")
    desk.batcher.start()
    wait_until(lambda: desk.recognizer.prepared)
    assert [line.key for line in desk.batcher.stop(0.0)] == ["a", "b"]
    assert desk.recognizer.prepared == []
    assert desk.recognizer.ahead is not None
    assert desk.recognizer.ahead.forgotten == 1


@pytest.mark.parametrize("alone", [False, True])
def test_a_key_that_comes_again_is_another_line(alone: bool) -> None:
    desk = Desk(FakeRecognizer(rows=1, lines_ahead=1))
    desk.submit("a", tokens=3)
    desk.submit("b", tokens=1)
    desk.turns()
    (before,) = desk.recognizer.prepared
    desk.batcher.cancel(["b"])
    desk.submit("b", tokens=2, alone=alone)
    desk.turns()
    assert not any(one is before for one in desk.recognizer.prepared)
    assert len(desk.recognizer.prepared) == (0 if alone else 1)
    desk.finish()
    assert (desk.read, desk.recognizer.lengths["b"]) == (["a", "b"], 2)


def is_stopped(desk: Desk) -> bool:
    try:
        desk.submit("late")
    except BatcherStopped:
        return True
    desk.batcher.cancel(["late"])
    return False
