"""How many rows are used, and by whom: fewer after the device ran out of memory, some kept for interactive lines."""

from __future__ import annotations

#: Where there are at least so many rows, one in so many is for interactive lines only, so that none of them waits for a
#: row that bulk work holds.
_ROWS_PER_INTERACTIVE_ROW = 8
#: After running out of memory, one more row is tried each time that so many lines were read without trouble. Halving at
#: once and growing by one (TCP's congestion avoidance, RFC 5681) finds the limit again when another process took the
#: memory for a while; where the limit is for good, it costs one repeated group in hundreds of lines. Lines are encoded
#: ahead again after so many more.
_LINES_PER_REGAINED_ROW = 128


class RowLimit:
    """The number of rows that may be in use; not safe for threads.

    Args:
        rows: The rows of the recognizer, which the limit never exceeds.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._now = rows
        self._reads = 0
        self._memory_is_short = False

    @property
    def now(self) -> int:
        """Rows that may be in use, at least 1."""
        return self._now

    @property
    def shared(self) -> int:
        """How many of them lines that nobody waits for may use, at least 1."""
        return self._now - self._now // _ROWS_PER_INTERACTIVE_ROW

    @property
    def leaves_memory(self) -> bool:
        """Whether lines may be encoded ahead: not from when memory ran out until lines were read well in all rows."""
        return not self._memory_is_short

    def halve(self, used: int) -> None:
        """The device ran out of memory with `used` rows."""
        self.leave_no_memory()
        self._now = max(1, min(self._now, used // 2))

    def leave_no_memory(self) -> None:
        """The device ran out of memory: for a while nothing is encoded beside the rows."""
        self._memory_is_short = True
        self._reads = 0

    def count_read(self) -> None:
        """A line was read."""
        self._reads += 1
        if self._reads >= _LINES_PER_REGAINED_ROW:
            self._reads = 0
            self._memory_is_short = self._now < self._rows
            self._now = min(self._now + 1, self._rows)
