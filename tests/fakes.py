"""Stand-ins for parts that cost time, memory or a device; they honour the same protocols."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from core.transcript import Token, Word
from worker.batcher import AdmitReason
from worker.recognizer import GroupSize, LineRequest, ModelCard, Recognition, RecognizerOutOfMemory

_CARD = ModelCard(name="fake", revision=None, sha256="0" * 64, device="cpu", dtype="float32", parameters=0)


def line_of(tokens: int, *, beams: int = 1) -> LineRequest:
    """A line that takes `FakeRecognizer` so many steps: its height."""
    return LineRequest(pixels=np.zeros((tokens, 8, 3), np.uint8), beams=beams)


def recognition_of(text: str, *, with_pieces: bool) -> Recognition:
    """A recognition of this text, sure of it."""
    return Recognition(
        text=text,
        confidence=1.0,
        words=tuple(Word(text=word, confidence=1.0) for word in text.split()),
        tokens=(7,),
        token_logprobs=(0.0,),
        flags=frozenset(),
        pieces=(Token(text=text, logprob=0.0),) if with_pieces else None,
    )


class FakeAhead:
    """Encodes at most so many lines ahead."""

    def __init__(self, most: int, on_want: Callable[[], None]) -> None:
        self._most = most
        self._on_want = on_want
        self.wanted: list[LineRequest] = []
        #: How often it was told to forget all lines.
        self.forgotten = 0

    @property
    def most(self) -> int:
        return self._most

    def want(self, requests: Sequence[LineRequest]) -> None:
        self._on_want()
        assert len(requests) <= 2 * self._most, "more lines than are wanted ahead"
        self.wanted = list(requests)

    def keep(self, requests: Sequence[LineRequest]) -> None:
        begun = [one for one in self.wanted if any(one is request for request in requests)]
        assert len(begun) == len(requests), "a line is kept that was not begun"
        self.wanted = begun

    def forget(self) -> None:
        self.wanted = []
        self.forgotten += 1

    def hand_over(self, requests: Collection[LineRequest]) -> None:
        """These are admitted."""
        self.wanted = [one for one in self.wanted if not any(one is request for request in requests)]


class FakeRecognizer:
    """Reads a line of height n in n steps as "text of <key>", and fails where it is told to.

    Args:
        rows: Lines at once.
        least_lines: Lines that are well encoded together, at least.
        most_lines: The same, at most; 0 is as many as rows.
        lines_ahead: Lines that are well encoded before there are rows for them.
        unreadable: Keys whose lines cannot be encoded.
        poisonous: Keys whose lines fail any step that they are in.
        memory_rows: Rows that there is memory for, lines encoded ahead counted as such; it runs out when more would be
            in use, but for one line alone.
        on_want: Called each time that lines are wanted ahead.
        on_admit: Called in the middle of each admit.
        on_step: Called in the middle of each step.
        on_drop: Called in the middle of each drop; what it raises loses all rows.
        on_settled: Called when texts are asked for.
        steps: Steps that each line takes; None: its height.
    """

    def __init__(
        self,
        rows: int = 4,
        *,
        least_lines: int = 1,
        most_lines: int = 0,
        lines_ahead: int = 0,
        unreadable: Collection[str] = (),
        poisonous: Collection[str] = (),
        memory_rows: int | None = None,
        on_want: Callable[[], None] = lambda: None,
        on_admit: Callable[[], None] = lambda: None,
        on_step: Callable[[], None] = lambda: None,
        on_drop: Callable[[], None] = lambda: None,
        on_settled: Callable[[], None] = lambda: None,
        steps: int | None = None,
    ) -> None:
        self._rows = rows
        self._group_size = GroupSize(least=least_lines, most=most_lines or rows)
        self.ahead = FakeAhead(lines_ahead, on_want) if lines_ahead else None
        self.unreadable = unreadable
        self.poisonous = poisonous
        self.memory_rows = rows + 2 * lines_ahead if memory_rows is None else memory_rows
        self._on_admit = on_admit
        self._on_step = on_step
        self._on_drop = on_drop
        self._on_settled = on_settled
        self._steps = steps
        #: Steps that each line in rows still takes.
        self.steps_left: dict[str, int] = {}
        #: Lines whose requests want their pieces.
        self.with_pieces: set[str] = set()
        #: Steps that each line takes, and took.
        self.lengths: dict[str, int] = {}
        #: Rows that each line takes, and took.
        self.beams: dict[str, int] = {}
        #: The keys of each group that was admitted.
        self.admitted: list[tuple[str, ...]] = []

    @property
    def card(self) -> ModelCard:
        return _CARD

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def group_size(self) -> GroupSize:
        return self._group_size

    @property
    def max_aspect_ratio(self) -> float:
        return 20.0

    def admit(self, lines: Mapping[str, LineRequest]) -> None:
        self._on_admit()
        assert lines, "an empty group"
        assert self.steps_left.keys().isdisjoint(lines), "a line got a second row"
        assert len(lines) <= self._group_size.most, "a larger group than is good"
        if self.ahead is not None:
            self.ahead.hand_over(lines.values())
        used = self.rows_in_use + sum(request.beams for request in lines.values())
        alone = not self.steps_left and len(lines) == 1
        assert used <= self._rows or alone, "more beams than rows"
        if self._lacks_memory(used, alone=alone):
            raise RecognizerOutOfMemory
        if not lines.keys().isdisjoint(self.unreadable):
            raise ValueError("unreadable")
        self.admitted.append(tuple(lines))
        self.lengths.update((key, self._steps or request.pixels.shape[0]) for key, request in lines.items())
        self.steps_left.update((key, self.lengths[key]) for key in lines)
        self.with_pieces.difference_update(lines)
        self.with_pieces.update(key for key, request in lines.items() if request.top_logprobs is not None)
        self.beams.update((key, request.beams) for key, request in lines.items())

    @property
    def prepared(self) -> list[LineRequest]:
        """Lines that are encoded before there are rows for them."""
        return [] if self.ahead is None else self.ahead.wanted

    @property
    def rows_in_use(self) -> int:
        return sum(self.beams[key] for key in self.steps_left)

    def step(self) -> Mapping[str, Recognition]:
        self._on_step()
        if self._lacks_memory(self.rows_in_use, alone=len(self.steps_left) == 1):
            self.steps_left.clear()
            raise RecognizerOutOfMemory
        if not self.steps_left.keys().isdisjoint(self.poisonous):
            self.steps_left.clear()
            raise ValueError("poisonous")
        self.steps_left = {key: left - 1 for key, left in self.steps_left.items()}
        ended = [key for key, left in self.steps_left.items() if left <= 0]
        self._free(ended)
        return {key: recognition_of(f"text of {key}", with_pieces=key in self.with_pieces) for key in ended}

    def _lacks_memory(self, rows: int, *, alone: bool) -> bool:
        ahead = len(self.prepared)
        fits_alone = alone and not ahead and self.memory_rows > 0
        return rows + ahead > self.memory_rows and not fits_alone

    def settled(self, keys: Collection[str]) -> Mapping[str, str]:
        self._on_settled()
        done = {key: self.lengths[key] - left for key, left in self.steps_left.items() if key in keys}
        return {key: f"text of {key}"[:steps] for key, steps in done.items()}

    def drop(self, keys: Collection[str]) -> None:
        try:
            self._on_drop()
        except Exception:
            self.steps_left.clear()
            raise
        self._free(keys)

    def _free(self, keys: Collection[str]) -> None:
        self.steps_left = {key: left for key, left in self.steps_left.items() if key not in keys}


class SilentObserver:
    """A `BatchObserver` that tells nobody."""

    def admitted(
        self, *, lines: int, jobs: int, reason: AdmitReason, encode_s: float, waits_s: Sequence[float]
    ) -> None:
        pass

    def stepped(self, *, rows: int, jobs: int, step_s: float) -> None:
        pass

    def ran_out_of_memory(self, *, row_limit: int) -> None:
        pass
