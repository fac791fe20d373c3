"""What becomes of lines of any width, given to the batcher whole or in parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.transcript import Flag
from tests.fakes import FakeRecognizer, SilentObserver
from worker.batcher import BatcherStopped, QueuedLine
from worker.long_lines import LongLines
from worker.recognizer import LineRequest, Recognition

KEYS = "abcdef"


def line(key: str, *, aspect: int = 90, steps: int = 1, job_id: str = "job", alone: bool = False) -> QueuedLine:
    """A line with ink that takes so many steps, or each of its parts does."""
    pixels = np.full((steps, aspect * steps, 3), 255, np.uint8)
    pixels[:, ::2] = 0
    return QueuedLine(key=key, request=LineRequest(pixels=pixels), priority=1, job_id=job_id, alone=alone)


@dataclass
class Desk:
    """Lines over a recognizer of the test's own, and what was told of them."""

    recognizer: FakeRecognizer
    started: list[list[str]] = field(default_factory=list)
    read: dict[str, Recognition] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    lines: LongLines = field(init=False)

    def __post_init__(self) -> None:
        self.lines = LongLines(
            self.recognizer,
            on_start=lambda lines: self.started.append([line.key for line in lines]),
            on_settled=lambda _, __: None,
            on_read=self._on_read,
            on_failed=self._on_failed,
            observer=SilentObserver(),
        )

    def finish(self) -> None:
        for _ in range(1000):
            if not (self.lines.batcher.backlog or self.lines.batcher.in_rows):
                return
            self.lines.batcher.turn()
        pytest.fail("the lines do not end")

    def _on_read(self, line: QueuedLine, recognition: Recognition) -> None:
        self.read[line.key] = recognition
        self.ended[line.key] += 1

    def _on_failed(self, line: QueuedLine, error: Exception) -> None:
        self.failed[line.key] = error
        self.ended[line.key] += 1


def test_a_long_line_is_read_in_rows_of_its_own_and_delivered_once() -> None:
    desk = Desk(FakeRecognizer(rows=8))
    desk.lines.submit(line("a", aspect=90))
    assert desk.lines.batcher.backlog == 6
    desk.finish()
    assert [len(group) for group in desk.recognizer.admitted] == [6]
    assert desk.ended == {"a": 1}
    assert desk.read["a"].flags == {Flag.LONG_LINE}
    assert desk.read["a"].text.count("text of a/") == 6


def test_each_part_is_read_with_the_beams_of_its_line() -> None:
    desk = Desk(FakeRecognizer(rows=8))
    wide = line("a", aspect=30)
    desk.lines.submit(replace(wide, request=replace(wide.request, beams=3)))
    desk.finish()
    assert list(desk.recognizer.beams.values()) == [3, 3]


def test_the_parts_are_put_together_in_order_whichever_ends_first() -> None:
    desk = Desk(FakeRecognizer(rows=8))
    desk.lines.submit(line("a", aspect=90, steps=2))
    desk.lines.batcher.turn()
    desk.recognizer.steps_left["a/0"] += 3
    desk.finish()
    assert desk.read["a"].text.startswith("text of a/0 text of a/")


def test_a_line_that_fits_is_read_as_it_is() -> None:
    desk = Desk(FakeRecognizer(rows=8))
    desk.lines.submit(line("a", aspect=24))
    desk.finish()
    assert desk.read["a"].text == "text of a"
    assert desk.read["a"].flags == set()


def test_a_start_names_each_line_once() -> None:
    desk = Desk(FakeRecognizer(rows=16))
    for key in "ab":
        desk.lines.submit(line(key, aspect=90))
    desk.lines.submit(line("c", aspect=10))
    desk.finish()
    assert desk.started == [["a", "b", "c"]]


def test_parts_without_ink_call_no_model() -> None:
    half_empty = line("a", steps=8)
    half_empty.request.pixels[:, 20 * 8 :] = 255
    desk = Desk(FakeRecognizer(rows=8))
    desk.lines.submit(half_empty)
    desk.finish()
    assert [len(group) for group in desk.recognizer.admitted] == [2]
    assert desk.ended == {"a": 1}


def test_a_part_that_cannot_be_read_fails_its_line_once_and_frees_the_rows_of_the_others() -> None:
    desk = Desk(FakeRecognizer(rows=8))
    desk.lines.submit(line("a", aspect=90, steps=5))
    desk.lines.submit(line("b", aspect=10, steps=2))
    unreadable = line("a", aspect=90, steps=5)
    desk.recognizer.poisonous = ["a/0"]
    desk.finish()
    assert desk.ended == {"a": 1, "b": 1}
    assert list(desk.failed) == ["a"]
    assert desk.recognizer.steps_left == {}
    desk.recognizer.poisonous = []
    desk.lines.submit(unreadable)
    desk.finish()
    assert desk.ended["a"] == 2, "its key is free again"


def test_a_canceled_long_line_leaves_all_its_rows() -> None:
    desk = Desk(FakeRecognizer(rows=4))
    desk.lines.submit(line("a", aspect=90, steps=3))
    desk.lines.batcher.turn()
    desk.lines.cancel(["a", "unknown"])
    assert desk.lines.batcher.backlog == desk.lines.batcher.in_rows == 0
    desk.lines.batcher.turn()
    assert desk.recognizer.steps_left == {}
    assert desk.ended == {}


def test_a_stop_returns_a_long_line_once_although_some_of_its_parts_were_read() -> None:
    desk = Desk(FakeRecognizer(rows=2))
    long, short = line("a", aspect=90), line("b", aspect=10)
    desk.lines.submit(long)
    desk.lines.submit(short)
    desk.lines.batcher.turn()
    assert desk.lines.stop(grace_s=0) == [long, short]
    assert desk.lines.stop(grace_s=0) == []
    with pytest.raises(BatcherStopped):
        desk.lines.submit(long)
    assert desk.ended == {}


def test_the_pieces_are_told_only_to_those_who_asked() -> None:
    desk = Desk(FakeRecognizer(rows=8))
    plain, curious = line("a"), line("b")
    desk.lines.submit(plain)
    desk.lines.submit(replace(curious, request=replace(curious.request, top_logprobs=0)))
    desk.finish()
    assert desk.read["a"].pieces is None
    assert desk.read["b"].pieces is not None


random = Random(5)
#: Some of all lines there could be: to draw one of them is quicker than to draw all that is in it.
LINES = [
    line(
        random.choice(KEYS),
        aspect=random.choice([10, 30, 70]),
        steps=random.randint(1, 3),
        job_id=random.choice(["job_a", "job_b"]),
        alone=random.random() < 0.3,
    )
    for _ in range(200)
]
part_keys = st.sets(st.builds(lambda key, left: f"{key}/{left}", st.sampled_from(KEYS), st.sampled_from([0, 13])))


class World(Desk):
    """A desk that counts how often each line was submitted, canceled and returned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.submitted: Counter[str] = Counter()
        self.canceled: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()

    def act(self, deed: str, chosen: QueuedLine) -> None:
        if deed == "turn":
            self.lines.batcher.turn()
        elif deed == "memory":
            self.recognizer.memory_rows = min(self.recognizer.rows, len(chosen.request.pixels))
        elif deed == "cancel":
            self.canceled[chosen.key] += self._is_open(chosen.key)
            self.lines.cancel([chosen.key])
        elif not self._is_open(chosen.key):
            self.lines.submit(chosen)
            self.submitted[chosen.key] += 1

    def stop(self) -> None:
        self.unread.update(line.key for line in self.lines.stop(grace_s=0))
        self.lines.batcher.turn()

    def _is_open(self, key: str) -> bool:
        return self.submitted[key] > self.canceled[key] + self.ended[key]


@given(
    rows=st.integers(1, 6),
    unreadable=part_keys | st.sets(st.sampled_from(KEYS)),
    poisonous=part_keys,
    deeds=st.lists(
        st.tuples(st.sampled_from(["submit", "submit", "turn", "turn", "cancel", "memory"]), st.sampled_from(LINES))
    ),
    stops=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_every_line_ends_exactly_once(
    rows: int, unreadable: set[str], poisonous: set[str], deeds: Sequence[tuple[str, QueuedLine]], stops: bool
) -> None:
    world = World(FakeRecognizer(rows, unreadable=unreadable, poisonous=poisonous))
    for deed, chosen in deeds:
        world.act(deed, chosen)
    if stops:
        world.stop()
    else:
        world.finish()
    assert world.submitted == world.ended + world.canceled + world.unread
