"""The order in which lines are read: priority, then turn by turn between jobs, then age.

A line that needs several rows at once, or all of them, comes before all others when it has been kept waiting for long.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest

from worker.recognizer import LineRequest

#: The priority of lines that somebody waits for.
INTERACTIVE = 0
#: Where lines are that were kept waiting for long.
_OVERDUE = -1
#: How long more urgent lines may keep the next line from rows that it needs at once, seconds. Rows are then emptied for
#: it, which takes about as long as a line does: most of the time is that of the urgent ones in any case.
_LONGEST_HELD_S = 10.0


@dataclass(frozen=True, kw_only=True)
class QueuedLine:
    """A line that waits to be read."""

    #: Names the line; no other line that waits or is in rows may have it.
    key: str
    request: LineRequest
    #: 0 interactive, 1 normal, 2 bulk.
    priority: int
    job_id: str
    #: It must be the only line in rows: it was once lost with a worker, which it may have killed.
    alone: bool
    #: Somebody wants to see its text grow.
    watched: bool = False


@dataclass(frozen=True, kw_only=True)
class WaitingLine:
    """A line with what the batcher knows about it."""

    line: QueuedLine
    #: When it was submitted, on the monotonic clock, seconds.
    since: float
    #: It was in rows when a step failed: it runs alone now, and another failure is its own.
    second_try: bool = False
    #: It was kept waiting for so long that nothing is admitted before it.
    overdue: bool = False

    @property
    def level(self) -> int:
        """The lower, the sooner it is read."""
        return _OVERDUE if self.overdue else self.line.priority

    @property
    def alone(self) -> bool:
        """Whether it must be the only line in rows."""
        return self.line.alone or self.second_try

    @property
    def rows(self) -> int:
        """How many rows it takes: one for each beam."""
        return self.line.request.beams


class LineQueue:
    """Lines that wait; not safe for threads, the batcher locks around it."""

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[str, deque[WaitingLine]]] = {}
        self._keys: set[str] = set()
        #: Since when lines, by their keys, are kept waiting for rows that they need at once.
        self._held_since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    @property
    def oldest_since(self) -> float | None:
        """When the line that has waited longest was submitted, on the monotonic clock, seconds; None when empty."""
        jobs = (lines for level in self._levels.values() for lines in level.values())
        return min((lines[0].since for lines in jobs), default=None)

    def push(self, waiting: WaitingLine) -> None:
        """Put a line behind the others of its job; a job that had none is the last to get its turn."""
        self._job(waiting).append(waiting)
        self._keys.add(waiting.line.key)

    def push_front(self, waiting: WaitingLine) -> None:
        """Put a line back to where it is the next of its priority."""
        self._job(waiting).appendleft(waiting)
        self._levels[waiting.level].move_to_end(waiting.line.job_id, last=False)
        self._keys.add(waiting.line.key)

    def take(self, *, free_rows: int, shared_rows: int, rows_in_use: int, most_lines: int) -> list[WaitingLine]:
        """Remove the lines that may be admitted now, in order.

        A line that must be alone is taken when no row is in use, and then nothing with it; until then it keeps those
        behind it waiting, for otherwise the rows might never be empty. The same is true of a line with more beams than
        rows may be used. See `hold_back` for lines of a higher priority that come meanwhile.

        Args:
            free_rows: Rows that interactive lines may take.
            shared_rows: How many of them lines of a lower priority may take.
            rows_in_use: Rows that are held by other lines.
            most_lines: Take no more lines than that.
        """
        group: list[WaitingLine] = []
        while len(group) < most_lines and (head := self._head()) is not None:
            is_first = not (rows_in_use or group)
            has_rows = head.rows <= free_rows
            if head.level > INTERACTIVE:
                has_rows = has_rows and head.rows <= shared_rows
                shared_rows -= head.rows
            if not is_first and (head.alone or not has_rows):
                break
            free_rows -= head.rows
            group.append(self._pop(head))
            if head.alone:
                break
        return group

    def next_lines(self, most: int) -> list[WaitingLine]:
        """The lines that come next, in order, without removing them; only those before one that must be alone."""
        found: list[WaitingLine] = []
        for level in sorted(self._levels):
            turns = zip_longest(*islice(self._levels[level].values(), most))
            for waiting in islice(filter(None, chain.from_iterable(turns)), most - len(found)):
                if waiting.alone:
                    return found
                found.append(waiting)
        return found

    def hold_back(self, *, most_urgent: int, now: float) -> None:
        """Note that the next line waits while others are read; if more urgent ones for long, it goes before all others.

        Only if it needs several rows at once, or all: for a single one it has its turn when one is free.

        Args:
            most_urgent: The priority of the most urgent line in rows.
            now: On the monotonic clock, seconds.
        """
        head = self._head()
        if head is None or head.overdue or most_urgent >= head.line.priority or not (head.alone or head.rows > 1):
            return
        if now - self._held_since.setdefault(head.line.key, now) >= _LONGEST_HELD_S:
            self.push_front(replace(self._pop(head), overdue=True))

    def discard(self, keys: Collection[str]) -> None:
        """Remove these lines; keys that do not wait are ignored."""
        if self._keys.isdisjoint(keys):
            return
        self._keys.difference_update(keys)
        for key in keys:
            self._held_since.pop(key, None)
        for level in self._levels.values():
            for job_id, lines in list(level.items()):
                kept = deque(waiting for waiting in lines if waiting.line.key in self._keys)
                if kept:
                    level[job_id] = kept
                else:
                    del level[job_id]

    def drain(self) -> list[WaitingLine]:
        """Remove every line, in order."""
        drained: list[WaitingLine] = []
        while (head := self._head()) is not None:
            drained.append(self._pop(head))
        return drained

    def _job(self, waiting: WaitingLine) -> deque[WaitingLine]:
        level = self._levels.setdefault(waiting.level, OrderedDict())
        return level.setdefault(waiting.line.job_id, deque())

    def _head(self) -> WaitingLine | None:
        for level in sorted(self._levels):
            for lines in self._levels[level].values():
                return lines[0]
        return None

    def _pop(self, head: WaitingLine) -> WaitingLine:
        level = self._levels[head.level]
        lines = level[head.line.job_id]
        lines.popleft()
        level.move_to_end(head.line.job_id)
        if not lines:
            del level[head.line.job_id]
        self._keys.remove(head.line.key)
        self._held_since.pop(head.line.key, None)
        return head
