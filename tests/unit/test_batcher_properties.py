"""Whatever happens in whatever order, each line ends exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.clocks import Clock
from tests.fakes import FakeRecognizer, SilentObserver, line_of
from worker.batcher import Batcher, QueuedLine
from worker.recognizer import LineRequest

KEYS = tuple("abcdefghijkl")

random = Random(5)
#: Some of all lines there could be: to draw one of them is quicker than to draw all that is in it.
LINES = [
    QueuedLine(
        key=random.choice(KEYS),
        request=line_of(random.randint(1, 4), beams=random.choice([1, 1, 1, 2, 5])),
        priority=random.randint(0, 2),
        job_id=random.choice(["job_a", "job_b", "job_c"]),
        alone=random.random() < 0.25,
        watched=random.random() < 0.5,
    )
    for _ in range(500)
]
lines = st.sampled_from(LINES)


@dataclass
class World:
    """A batcher over a recognizer that fails as it is told, and the count of how each key ended."""

    rows: int
    least_lines: int
    most_lines: int
    lines_ahead: int
    unreadable: set[str]
    poisonous: set[str]
    refused: set[str]
    #: The recognizer fails so often when rows are dropped or texts are asked for.
    breaks: int
    recognizer: FakeRecognizer = field(init=False)
    batcher: Batcher = field(init=False)
    submitted: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    lost_with_cancel: Counter[str] = field(default_factory=Counter)
    open: dict[str, QueuedLine] = field(default_factory=dict)
    meanwhile: list[Callable[[], None]] = field(default_factory=list)
    #: Canceled during the present turn: their rows are free only at the next one's start.
    dropping: set[str] = field(default_factory=set)
    #: Those that the batcher said it starts.
    started: list[LineRequest] = field(default_factory=list)
    #: The last of them.
    starting: Sequence[QueuedLine] = ()

    def __post_init__(self) -> None:
        self.recognizer = FakeRecognizer(
            self.rows,
            least_lines=self.least_lines,
            most_lines=self.most_lines,
            lines_ahead=self.lines_ahead,
            unreadable=self.unreadable,
            poisonous=self.poisonous,
            on_admit=self._admit,
            on_step=self._step,
            on_drop=self._break,
            on_settled=self._break,
        )
        self.batcher = Batcher(
            self.recognizer,
            on_start=self._start,
            on_settled=lambda line, _: self._see(line),
            on_read=lambda line, _: self._end(line.key),
            on_failed=lambda line, _: self._end(line.key),
            observer=SilentObserver(),
        )

    def submit(self, line: QueuedLine) -> None:
        if line.key not in self.open:
            self.batcher.submit(line)
            self.submitted[line.key] += 1
            self.open[line.key] = line

    def cancel(self, keys: set[str]) -> None:
        self.batcher.cancel(keys)
        self.dropping |= keys
        for key in keys & self.open.keys():
            del self.open[key]
            self.lost_with_cancel[key] += 1

    def replace(self, keys: set[str], again: list[QueuedLine]) -> None:
        self.cancel(keys)
        self.submit_all(again)

    def submit_all(self, lines: Sequence[QueuedLine]) -> None:
        for line in lines:
            self.submit(line)

    def replace_later(self, keys: set[str], again: list[QueuedLine]) -> None:
        self.meanwhile.append(partial(self.replace, keys, again))

    def limit_memory(self, rows: int) -> None:
        self.recognizer.memory_rows = min(rows, self.rows)

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.turn()

    def turn(self) -> None:
        self.dropping.clear()
        self.batcher.turn()
        assert self.recognizer.rows_in_use <= self.rows or len(self.recognizer.steps_left) == 1
        in_rows = self.recognizer.steps_left.keys() - self.dropping
        assert len(in_rows) <= 1 or not any(self.open[key].alone for key in in_rows if key in self.open)

    def finish(self) -> None:
        self.recognizer.memory_rows = max(1, self.recognizer.memory_rows)
        for _ in range(500):
            if not (self.batcher.backlog or self.batcher.in_rows):
                return
            self.turn()
        raise AssertionError("the lines do not end")

    def _meanwhile(self) -> None:
        while self.meanwhile:
            self.meanwhile.pop()()

    def _break(self) -> None:
        if self.breaks:
            self.breaks -= 1
            raise ValueError("broken")

    def _start(self, lines: Sequence[QueuedLine]) -> None:
        self._meanwhile()
        if not self.refused.isdisjoint(line.key for line in lines):
            raise ConnectionError
        self.started += [line.request for line in lines]
        self.starting = lines

    def _admit(self) -> None:
        assert not (self.recognizer.prepared and any(line.alone for line in self.starting)), "a suspect has company"

    def _step(self) -> None:
        ahead = self.recognizer.prepared
        in_rows = [self.open[key] for key in self.recognizer.steps_left if key in self.open]
        if not any(line.priority == 0 for line in in_rows) and not self.dropping:
            waiting = [
                line.request
                for line in self.open.values()
                if line.key not in self.recognizer.steps_left and not line.alone
            ]
            assert all(any(request is one for one in waiting) for request in ahead), "encoded, but will not be admitted"
        assert all(any(request is one for one in self.started) for request in ahead), "encoded without being started"
        assert not (ahead and any(line.alone for line in in_rows)), "something is encoded beside a suspect"
        self._meanwhile()

    def _see(self, line: QueuedLine) -> None:
        assert line.watched and self.open.get(line.key) is not None, "a line was shown after its end"

    def _end(self, key: str) -> None:
        assert key in self.open, "a line ended twice, or after its cancel"
        del self.open[key]
        self.ended[key] += 1


keys = st.sets(st.sampled_from(KEYS), max_size=3)
deeds = st.one_of(
    st.builds(lambda line: partial(World.submit, line=line), lines),
    st.builds(lambda line, other: partial(World.submit_all, lines=[line, other]), lines, lines),
    st.just(World.turn),
    st.builds(lambda turns: partial(World.turns, count=turns), st.integers(1, 4)),
    st.builds(lambda chosen: partial(World.cancel, keys=chosen), keys),
    st.builds(
        lambda chosen, again: partial(World.replace_later, keys=chosen, again=again), keys, st.lists(lines, max_size=2)
    ),
    st.builds(lambda rows: partial(World.limit_memory, rows=rows), st.integers(0, 9)),
)
stories = st.lists(deeds, min_size=1, max_size=30)
some_keys = st.sets(st.sampled_from(KEYS), max_size=2)
worlds = st.builds(
    World,
    rows=st.integers(1, 9),
    least_lines=st.integers(1, 4),
    most_lines=st.integers(4, 9),
    lines_ahead=st.integers(0, 3),
    unreadable=some_keys,
    poisonous=some_keys,
    refused=some_keys,
    breaks=st.integers(0, 3),
)


@given(world=worlds, story=stories)
@settings(max_examples=120, deadline=None)
def test_each_line_ends_exactly_once_or_was_canceled(world: World, story: Sequence[Callable[[World], None]]) -> None:
    for deed in story:
        deed(world)
    world.finish()
    assert not world.open
    assert world.submitted == world.ended + world.lost_with_cancel


@given(world=worlds, story=stories)
@settings(max_examples=40, deadline=None)
def test_stopping_returns_exactly_what_did_not_end(world: World, story: Sequence[Callable[[World], None]]) -> None:
    for deed in story:
        deed(world)
    unread = world.batcher.stop(grace_s=0.0)
    world.meanwhile.clear()
    world.turn()
    assert sorted(line.key for line in unread) == sorted(world.open)


@given(world=worlds, batch=st.lists(lines, max_size=12))
@settings(max_examples=40, deadline=None)
def test_nobody_overtakes_a_more_urgent_line(world: World, batch: list[QueuedLine]) -> None:
    world.unreadable.clear()
    world.poisonous.clear()
    world.refused.clear()
    world.breaks = 0
    for line in batch:
        world.submit(line)
    priorities = {key: line.priority for key, line in world.open.items()}
    world.finish()
    started = [priorities[key] for group in world.recognizer.admitted for key in group]
    assert started == sorted(started)


def ignored(*_: object) -> None:
    pass


@given(
    rows=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    beams=st.integers(1, 10),
    priority=st.integers(1, 2),
    busy_priority=st.integers(0, 1),
    least_lines=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_no_stream_of_more_urgent_lines_keeps_a_line_from_rows_for_ever(
    rows: int, lengths: list[int], beams: int, priority: int, busy_priority: int, least_lines: int
) -> None:
    assume(busy_priority < priority)
    clock, read = Clock(), list[str]()
    recognizer = FakeRecognizer(rows, least_lines=least_lines, on_step=lambda: clock.pass_time(1.0))
    batcher = Batcher(
        recognizer,
        on_start=ignored,
        on_settled=ignored,
        on_read=lambda line, _: read.append(line.key),
        on_failed=ignored,
        observer=SilentObserver(),
        clock=clock,
    )

    def submit(key: str, length: int, priority: int, beams: int = 1) -> None:
        request = line_of(length, beams=beams)
        batcher.submit(
            QueuedLine(key=key, request=request, priority=priority, job_id=key, alone=key == "slow" and beams == 1)
        )

    submitted = 0
    for turn in range(12 + 3 * max(lengths)):
        # as few as keep the rows from being empty, so that rows for one line more are mostly free
        while submitted - len(read) < min(2, rows):
            submit(f"urgent{submitted}", lengths[submitted % len(lengths)] + 1, busy_priority)
            submitted += 1
        if turn == 1:
            submit("slow", 1, priority, beams)
        batcher.turn()
    assert "slow" in read
