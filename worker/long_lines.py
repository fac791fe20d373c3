"""Lines on their way to the batcher: those that are too wide for the model are read in parts, each in a row of its own.

Whoever submits, cancels or stops deals with whole lines only, as with the batcher itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from worker.batcher import Batcher, BatchObserver, QueuedLine
from worker.line_checks import is_blank
from worker.line_parts import Part, parts_of
from worker.merged_lines import PartReading, merged
from worker.recognizer import Recognition, Recognizer


@dataclass(eq=False, kw_only=True)
class _LongLine:
    """A long line that has not ended."""

    line: QueuedLine
    keys: Sequence[str]
    readings: list[PartReading] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _QueuedPart(QueuedLine):
    """A part of a long line that waits to be read."""

    long_line: _LongLine
    part: Part


class LongLines:
    """Reads lines of any width with one model.

    Each line ends once, as with a `Batcher`, whose callbacks these are: a long line is read when all its parts are, and
    fails with the first of them that does.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        on_start: Callable[[Sequence[QueuedLine]], None],
        on_settled: Callable[[QueuedLine, str], None],
        on_read: Callable[[QueuedLine, Recognition], None],
        on_failed: Callable[[QueuedLine, Exception], None],
        observer: BatchObserver,
    ) -> None:
        self._on_start = on_start
        self._on_read = on_read
        self._on_failed = on_failed
        self._max_aspect_ratio = recognizer.max_aspect_ratio
        #: Where the parts wait, beside lines that are read whole.
        self.batcher = Batcher(
            recognizer,
            on_start=lambda lines: self._on_start(_wholes(lines)),
            on_settled=on_settled,
            on_read=self._on_part_read,
            on_failed=self._on_part_failed,
            observer=observer,
        )
        self._lock = threading.Lock()
        self._open: dict[str, _LongLine] = {}

    def submit(self, line: QueuedLine) -> None:
        """Queue a line, or all its parts; never blocks.

        Raises:
            BatcherStopped: `stop` was called.
            ValueError: A line with this key is waiting or in rows.
        """
        parts = parts_of(line.request.pixels, self._max_aspect_ratio)
        if len(parts) == 1:
            self.batcher.submit(line)
            return
        queued = _queued_parts(line, parts)
        # The lock is held so that no part ends, and no cancel comes, before the last one is queued.
        with self._lock:
            for part in queued:
                self.batcher.submit(part)
            self._open[line.key] = queued[0].long_line

    def cancel(self, keys: Collection[str]) -> None:
        """Forget these lines; unknown keys are ignored.

        No callback begins for them once this has returned; one that is running may still end.
        """
        with self._lock:
            long_lines = [self._open.pop(key) for key in keys if key in self._open]
        self.batcher.cancel([*keys, *(key for long_line in long_lines for key in long_line.keys)])

    def stop(self, grace_s: float) -> list[QueuedLine]:
        """Admit nothing more, let what is in rows end, and return the lines that were not read, or not as a whole.

        Args:
            grace_s: How long the lines in rows may take to end, seconds.
        """
        unread = []
        for line in self.batcher.stop(grace_s):
            if not isinstance(line, _QueuedPart):
                unread.append(line)
            elif self._close(line.long_line):
                unread.append(line.long_line.line)
        return unread

    def _on_part_read(self, line: QueuedLine, recognition: Recognition) -> None:
        if not isinstance(line, _QueuedPart):
            self._on_read(line, recognition)
            return
        long_line = line.long_line
        # Only the device's thread calls this, so nobody else adds a reading.
        long_line.readings.append(PartReading(part=line.part, recognition=recognition))
        if len(long_line.readings) == len(long_line.keys) and self._close(long_line):
            self._on_read(long_line.line, _whole_reading(long_line))

    def _on_part_failed(self, line: QueuedLine, error: Exception) -> None:
        if not isinstance(line, _QueuedPart):
            self._on_failed(line, error)
        elif self._close(line.long_line):
            self.batcher.cancel(line.long_line.keys)
            self._on_failed(line.long_line.line, error)

    def _close(self, long_line: _LongLine) -> bool:
        """Note that a long line ends now; False when it has ended already."""
        key = long_line.line.key
        with self._lock:
            is_open = self._open.get(key) is long_line
            if is_open:
                del self._open[key]
            return is_open


def _queued_parts(line: QueuedLine, parts: Sequence[Part]) -> list[_QueuedPart]:
    """Those parts that hold ink; all of them where none seems to, for the line as a whole does."""
    pixels = {part.left: part.of(line.request.pixels) for part in parts}
    inked = [part for part in parts if not is_blank(pixels[part.left])] or parts
    long_line = _LongLine(line=line, keys=[f"{line.key}/{part.left}" for part in inked])
    return [
        _QueuedPart(
            key=key,
            # Where two readings can be joined is known by their pieces.
            request=replace(line.request, pixels=pixels[part.left], top_logprobs=line.request.top_logprobs or 0),
            priority=line.priority,
            job_id=line.job_id,
            alone=line.alone,
            long_line=long_line,
            part=part,
        )
        for key, part in zip(long_line.keys, inked, strict=True)
    ]


def _whole_reading(long_line: _LongLine) -> Recognition:
    readings = sorted(long_line.readings, key=lambda reading: reading.part.left)
    request = long_line.line.request
    recognition = merged(readings, max_new_tokens=request.max_new_tokens)
    return recognition if request.top_logprobs is not None else replace(recognition, pieces=None)


def _wholes(lines: Sequence[QueuedLine]) -> list[QueuedLine]:
    """The lines to which these lines and parts belong, each once."""
    wholes = [line.long_line.line if isinstance(line, _QueuedPart) else line for line in lines]
    return list({whole.key: whole for whole in wholes}.values())
