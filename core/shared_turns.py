"""Work that several threads ask for at the same time, and that one of them does for all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class NotDone(Exception):
    """Nobody has done it for whoever asked, who may do it alone."""


class NotBegun(NotDone):
    """It has waited for its turn for too long."""


@dataclass(eq=False, kw_only=True)
class _Asked(Generic[_Item, _Result]):
    """One thread's item, and what became of it."""

    item: _Item
    size: int
    answer: _Result | Exception | None = None
    #: It was answered, or has the turn.
    woken: threading.Event = field(default_factory=threading.Event)


class SharedTurns(Generic[_Item, _Result]):
    """One turn at a time: whoever has it works for all who have come since the last began. From any threads.

    So an idle service does at once what it is asked for, and a busy one much of it together.

    Args:
        work: Does it for these items, in the order in which they came; answers in their order. An exception among the
            answers is raised to whoever asked.
        size: Of an item.
        most: Sizes of one turn together, at most; an item that is larger has a turn alone.
        patience_s: How long an item may wait for its turn to begin, seconds.
    """

    def __init__(
        self,
        work: Callable[[Sequence[_Item]], Sequence[_Result | Exception]],
        *,
        size: Callable[[_Item], int],
        most: int,
        patience_s: float,
    ) -> None:
        self._work = work
        self._size = size
        self._most = most
        self.patience_s = patience_s
        #: Guards the two below.
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: deque[_Asked[_Item, _Result]] = deque()

    @property
    def waiting(self) -> int:
        """Items that nobody has begun."""
        return len(self._waiting)

    def do(self, item: _Item) -> _Result:
        """Have it done, by this thread or by another; what came of it.

        Raises:
            NotBegun: Its turn did not begin in time.
            NotDone: Whoever did it for all failed.
            Exception: The answer.
        """
        asked: _Asked[_Item, _Result] = _Asked(item=item, size=self._size(item))
        with self._lock:
            self._waiting.append(asked)
            has_turn, self._busy = not self._busy, True
        if not has_turn:
            self._wait(asked)
        if asked.answer is None:
            self._have_turn()
        try:
            if asked.answer is None or isinstance(asked.answer, Exception):
                raise asked.answer or NotDone
            return asked.answer
        finally:
            # The exception's traceback refers to this frame: what was asked for would live until it is collected.
            del asked

    def _wait(self, asked: _Asked[_Item, _Result]) -> None:
        if asked.woken.wait(self.patience_s):
            return
        with self._lock:
            if not asked.woken.is_set() and asked in self._waiting:
                self._waiting.remove(asked)
                raise NotBegun
        # It was begun just then.
        asked.woken.wait()

    def _have_turn(self) -> None:
        group = self._next_group()
        try:
            answers = self._work([asked.item for asked in group])
            for asked, answer in zip(group, answers, strict=True):
                asked.answer = answer
        finally:
            self._hand_on(group)

    def _next_group(self) -> list[_Asked[_Item, _Result]]:
        """The first who waits, which is this thread, and those behind it as far as they fit."""
        with self._lock:
            group = [self._waiting.popleft()]
            size = group[0].size
            while self._waiting and (size := size + self._waiting[0].size) <= self._most:
                group.append(self._waiting.popleft())
        return group

    def _hand_on(self, group: Sequence[_Asked[_Item, _Result]]) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].woken.set()
            else:
                self._busy = False
        for asked in group:
            if asked.answer is None:
                asked.answer = NotDone()
            asked.woken.set()
