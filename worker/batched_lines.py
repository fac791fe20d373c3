"""The lines that a batcher has: which wait, which are in rows, and who may leave, join or go back; any thread asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from worker.line_queue import INTERACTIVE, LineQueue, QueuedLine, WaitingLine
from worker.recognizer import GroupSize
from worker.row_limit import RowLimit

#: A group waits for at most one in so many of the rows, however large a good group is: waiting for all of them would be
#: waiting for the longest line of the last group, as where a CPU has as many cores as there are rows.
_LEAST_GROUPS = 2


class BatcherStopped(Exception):
    """The batcher takes no more lines; give the line back."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What the device is to do before its next step, in this order."""

    #: Lines whose rows are to be freed; some have none.
    canceled: Collection[str]
    #: Lines to admit.
    group: Sequence[WaitingLine]


class BatchedLines:
    """Keeps every line from its submission until it ends, so that each ends once, whoever asks for what meanwhile.

    Args:
        rows: The rows of the recognizer.
        clock: Seconds that never go back.
    """

    def __init__(self, *, rows: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: Guards everything below.
        self._changed = threading.Condition()
        self._queue = LineQueue()
        #: From the moment a line leaves the queue until it ends, so that a cancel always finds it.
        self._in_rows: dict[str, WaitingLine] = {}
        self._to_drop: set[str] = set()
        self._row_limit = RowLimit(rows)
        self._stopping = False
        self._last_progress_at = clock()

    def submit(self, line: QueuedLine) -> None:
        """Queue a line.

        Raises:
            BatcherStopped: `stop` was called.
            ValueError: A line with this key is waiting or in rows.
        """
        with self._changed:
            if self._stopping:
                raise BatcherStopped
            if line.key in self._queue or line.key in self._in_rows:
                raise ValueError(f"line {line.key} is here already")
            now = self._clock()
            if not (self._queue or self._in_rows):
                self._last_progress_at = now
            self._queue.push(WaitingLine(line=line, since=now))
            self._changed.notify_all()

    def cancel(self, keys: Collection[str]) -> None:
        """Forget these lines; the rows of those that are in rows are freed by the next turn."""
        with self._changed:
            # One that waits may have been begun, which the device forgets.
            self._to_drop.update(key for key in keys if key in self._queue)
            self._queue.discard(keys)
            self._to_drop.update(key for key in keys if self._in_rows.pop(key, None) is not None)
            self._changed.notify_all()

    @property
    def backlog(self) -> int:
        """Lines that wait for a row."""
        with self._changed:
            return len(self._queue)

    @property
    def oldest_wait_s(self) -> float:
        """How long the line that has waited longest for a row waits now, seconds; 0 when none does."""
        with self._changed:
            since = self._queue.oldest_since
        return 0.0 if since is None else self._clock() - since

    @property
    def in_rows(self) -> Sequence[WaitingLine]:
        """The lines that are being started or read."""
        with self._changed:
            return list(self._in_rows.values())

    @property
    def row_limit(self) -> int:
        """Rows that are used at most."""
        with self._changed:
            return self._row_limit.now

    @property
    def last_progress_at(self) -> float:
        """When the device last got on, or lines came after idleness; monotonic clock, seconds."""
        with self._changed:
            return self._last_progress_at

    def has_room(self, *, beside: int = 0) -> bool:
        """Whether fewer lines wait than twice the rows, with so many that are about to come."""
        with self._changed:
            return len(self._queue) + beside < 2 * self._row_limit.now

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until fewer lines wait than twice the rows; false when that did not happen in time, or on `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self.has_room(), timeout_s)
            return self.has_room() and not self._stopping

    def stop(self, grace_s: float) -> list[QueuedLine]:
        """Take no more lines, wait for so many seconds until those in rows end, and take out those that do not."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._in_rows, grace_s)
            unread = [waiting.line for waiting in (*self._in_rows.values(), *self._queue.drain())]
            self._in_rows.clear()
            self._changed.notify_all()
            return unread

    def wait_for_work(self) -> bool:
        """Wait until the device has something to do; false when it has not, and never will."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._in_rows or self._queue or self._to_drop)
            return bool(self._in_rows) or not self._stopping

    def next_turn(self, size: GroupSize, *, allows_group: bool) -> Turn:
        """Take the lines that may be admitted now.

        One critical section with those that were canceled: a row that is canceled later is still counted as used, and
        its key may not be admitted again before it was dropped.

        Args:
            size: How many lines are best encoded together.
            allows_group: Whether lines that nobody waits for may be encoded while others are read that somebody does.
        """
        with self._changed:
            canceled, self._to_drop = self._to_drop, set()
            group = [] if self._stopping else self._admissible(size, allows_group=allows_group)
            self._in_rows.update((waiting.line.key, waiting) for waiting in group)
            self._changed.notify_all()
            return Turn(canceled=canceled, group=group)

    @property
    def nobody_waits(self) -> bool:
        """Whether no line is read that somebody waits for."""
        with self._changed:
            return all(waiting.line.priority > INTERACTIVE for waiting in self._in_rows.values())

    def following(self, most: int) -> list[QueuedLine]:
        """The lines that come next and may be encoded before their turn, in order.

        Beside a line that must be alone, and behind one, there are none, nor while memory is short, nor where no more
        will be admitted.
        """
        with self._changed:
            is_alone = any(waiting.alone for waiting in self._in_rows.values())
            if self._stopping or is_alone or not self._row_limit.leaves_memory:
                return []
            return [waiting.line for waiting in self._queue.next_lines(most)]

    def leave(self, key: str) -> WaitingLine | None:
        """Take a line out of rows, once; None when it was canceled or given back."""
        with self._changed:
            waiting = self._in_rows.pop(key, None)
            self._changed.notify_all()
            return waiting

    def put_back(self, group: Sequence[WaitingLine]) -> None:
        """Let lines that are in rows wait again, as the next of their priority; others are ignored."""
        with self._changed:
            for waiting in reversed(group):
                if self._in_rows.pop(waiting.line.key, None) is not None:
                    self._queue.push_front(waiting)
            self._changed.notify_all()

    def encode_none_ahead(self) -> None:
        """The device ran out of memory for what was encoded ahead: nothing is for a while."""
        with self._changed:
            self._row_limit.leave_no_memory()

    def halve_rows(self, used: int) -> None:
        """The device ran out of memory with `used` rows."""
        with self._changed:
            self._row_limit.halve(used)

    def count_read(self) -> None:
        """A line was read."""
        with self._changed:
            self._row_limit.count_read()

    def count_progress(self) -> float:
        """The device got on; when that was, on the clock, seconds."""
        with self._changed:
            self._last_progress_at = self._clock()
            return self._last_progress_at

    def _admissible(self, size: GroupSize, *, allows_group: bool) -> list[WaitingLine]:
        in_rows = self._in_rows.values()
        if any(waiting.alone for waiting in in_rows):
            return []
        used = rows_of(in_rows)
        lower = rows_of(waiting for waiting in in_rows if waiting.line.priority > INTERACTIVE)
        free = self._row_limit.now - used
        shared = min(free, self._row_limit.shared - lower)
        least = min(size.least, max(1, self._row_limit.shared // _LEAST_GROUPS))
        # Where no such group is being read, none ends, and waiting for more rows could be for ever.
        is_large_enough = not lower or shared >= min(least, len(self._queue))
        is_in_budget = lower == used or allows_group
        group = self._queue.take(
            free_rows=free,
            shared_rows=shared if is_large_enough and is_in_budget else 0,
            rows_in_use=used,
            most_lines=size.most,
        )
        if in_rows:
            self._queue.hold_back(most_urgent=min(waiting.line.priority for waiting in in_rows), now=self._clock())
        return group


def rows_of(lines: Iterable[WaitingLine]) -> int:
    """How many rows these lines take."""
    return sum(waiting.rows for waiting in lines)
