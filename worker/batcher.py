"""In-flight batching: lines of many jobs share the rows of one model, and each leaves as soon as it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

import structlog

from worker.batch_observer import AdmitReason, BatchObserver
from worker.batched_lines import BatchedLines, BatcherStopped
from worker.device_turns import BatchCallbacks, DeviceTurns
from worker.line_queue import QueuedLine
from worker.recognizer import DeviceLost, Recognition, Recognizer

__all__ = ["AdmitReason", "BatchObserver", "Batcher", "BatcherStopped", "QueuedLine"]

_log = structlog.get_logger(__name__)

#: How long `stop` waits for a step that outlasts the grace, seconds: a thread that still computes while the interpreter
#: ends would crash it.
_LAST_STEP_S = 2.0


class Batcher:
    """Keeps the rows of one model filled, from a thread that owns the device.

    Between two steps, waiting lines are admitted to free rows; lines that end are delivered at once, and their rows are
    free for the next ones. Every line that was submitted ends in exactly one of four ways: `on_read`, `on_failed`,
    canceled, or returned by `stop`. The callbacks and the observer run on the device's thread, so they hold up all
    rows; what they raise is logged.

    Args:
        recognizer: Called by the device's thread only.
        on_start: These lines are about to be encoded. If it raises as they are to be admitted, they fail with that
            exception; if it raises before, they are not encoded before they are admitted. A line starts again as it is
            admitted, and after it was put back (out of memory, a step that failed); and it may start though it is
            canceled or returned just then.
        on_settled: So much of the text of a watched line is settled after a step; it may be what it was before.
        on_read: A line was read.
        on_failed: A line could not be read: admitting it alone failed, or a step failed with it alone in rows. The
            exception is `RecognizerOutOfMemory` when it ran out of memory alone.
        observer: Is told the figures of each admit and step.
        clock: Seconds that never go back.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        callbacks = BatchCallbacks(
            on_start=on_start, on_settled=on_settled, on_read=on_read, on_failed=on_failed, observer=observer
        )
        self._lines = BatchedLines(rows=recognizer.rows, clock=clock)
        self._turns = DeviceTurns(recognizer, self._lines, callbacks, clock)
        self._thread = threading.Thread(target=self._run, name=f"device-{recognizer.card.name}", daemon=True)

    def start(self) -> None:
        """Start the device's thread."""
        self._thread.start()

    def submit(self, line: QueuedLine) -> None:
        """Queue a line; never blocks (see `wait_for_room`).

        Raises:
            BatcherStopped: `stop` was called.
            ValueError: A line with this key is waiting or in rows.
        """
        self._lines.submit(line)

    def cancel(self, keys: Collection[str]) -> None:
        """Forget these lines: waiting ones now, those in rows before the next step; unknown keys are ignored.

        No callback begins for them once this has returned; one that is running may still end.
        """
        self._lines.cancel(keys)

    @property
    def backlog(self) -> int:
        """Lines that wait for a row."""
        return self._lines.backlog

    @property
    def oldest_wait_s(self) -> float:
        """How long the line that has waited longest for a row waits now, seconds; 0 when none does."""
        return self._lines.oldest_wait_s

    @property
    def in_rows(self) -> int:
        """Lines that are being started or read."""
        return len(self._lines.in_rows)

    @property
    def row_limit(self) -> int:
        """Rows that are used at most: the recognizer's, or fewer since it ran out of memory."""
        return self._lines.row_limit

    @property
    def last_progress_at(self) -> float:
        """When a turn of the device's thread last ended, or lines came after idleness; monotonic clock, seconds.

        Lines that wait or are in rows, and no progress for long, mean that the device hangs.
        """
        return self._lines.last_progress_at

    def has_room(self, *, beside: int = 0) -> bool:
        """Whether fewer lines wait than twice the rows, with so many that are about to come."""
        return self._lines.has_room(beside=beside)

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until fewer lines wait than twice the rows; false when that did not happen in time, or on `stop`."""
        return self._lines.wait_for_room(timeout_s)

    def stop(self, grace_s: float) -> list[QueuedLine]:
        """Admit nothing more, let the lines in rows end, and return those that were not read.

        No callback begins for the returned lines. A second call returns an empty list. Not to be called by a callback.

        Args:
            grace_s: How long the lines in rows may take to end, seconds.
        """
        unread = self._lines.stop(grace_s)
        if self._thread.is_alive():
            self._thread.join(_LAST_STEP_S)
        return unread

    def turn(self) -> None:
        """Drop what was canceled, admit what may be admitted, and make one step; what the device's thread repeats.

        Raises:
            DeviceLost: No line has failed for it.
        """
        self._turns.make()

    def _run(self) -> None:
        try:
            while self._lines.wait_for_work():
                self.turn()
            self._turns.end()
        except DeviceLost as error:
            # No line fails for it. That `last_progress_at` stands still ends the worker, and others read its lines.
            _log.critical("device_lost", error=str(error))
