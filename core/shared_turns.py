"""Work that several threads ask for at the same time, and that one of them does for all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class _Asked(Generic[_Item, _Result]):
    """One thread's item, and what becomes of it."""

    item: _Item
    answer: Future[_Result] = field(default_factory=Future)


class SharedTurns(Generic[_Item, _Result]):
    """One turn at a time: whoever has it works for all who have come since the last began. From any threads.

    So an idle service does at once what it is asked for, and a busy one much of it together, as a database commits.

    Args:
        work: Does it for these items, in the order in which they came; answers in their order. An exception among the
            answers is raised to whoever asked; one that it raises, to all of them.
        most: Items of one turn at most.
    """

    def __init__(self, work: Callable[[Sequence[_Item]], Sequence[_Result | Exception]], *, most: int) -> None:
        self._work = work
        self._most = most
        self._turn = threading.Lock()
        #: Appended to by anybody, taken from by who has the turn.
        self._waiting: deque[_Asked[_Item, _Result]] = deque()

    def do(self, item: _Item) -> _Result:
        """Have it done, by this thread or by another; what came of it."""
        asked: _Asked[_Item, _Result] = _Asked(item=item)
        self._waiting.append(asked)
        # Whoever had the turn meanwhile may have done it, or only others that came before.
        while not asked.answer.done():
            with self._turn:
                if not asked.answer.done():
                    self._do_next()
        return asked.answer.result()

    @property
    def waiting(self) -> int:
        """Items that nobody has begun."""
        return len(self._waiting)

    def _do_next(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        answers: Sequence[_Result | BaseException]
        try:
            answers = self._work([asked.item for asked in group])
        except BaseException as exc:
            # Whatever it was: nobody else answers them any more.
            answers = [exc] * len(group)
        for asked, answer in zip(group, answers, strict=True):
            if isinstance(answer, BaseException):
                asked.answer.set_exception(answer)
            else:
                asked.answer.set_result(answer)
