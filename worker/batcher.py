"""In-flight batching: lines of many jobs share the rows of one model, and each leaves as soon as it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Protocol

import structlog

from worker.encode_budget import EncodeBudget
from worker.line_queue import INTERACTIVE, LineQueue, QueuedLine, WaitingLine
from worker.recognizer import DeviceLost, Recognition, Recognizer, RecognizerOutOfMemory
from worker.row_limit import RowLimit

__all__ = ["AdmitReason", "BatchObserver", "Batcher", "BatcherStopped", "QueuedLine"]

_log = structlog.get_logger(__name__)

#: How long `stop` waits for a step that outlasts the grace, seconds: a thread that still computes while the interpreter
#: ends would crash it.
_LAST_STEP_S = 2.0
#: A group waits for at most one in so many of the rows, however large a good group is: waiting for all of them would be
#: waiting for the longest line of the last group, as where a CPU has as many cores as there are rows.
_LEAST_GROUPS = 2


class BatcherStopped(Exception):
    """The batcher takes no more lines; give the line back."""


class AdmitReason(StrEnum):
    """Why a group of lines was given rows at that moment."""

    #: No row was in use: the first lines that came were started without waiting for more.
    IDLE = "idle"
    #: Rows were free while others were being read.
    JOINED = "joined"
    #: A line that must be alone.
    ALONE = "alone"


class BatchObserver(Protocol):
    """Is told what the device does, by the device's thread; must return at once."""

    def admitted(
        self, *, lines: int, jobs: int, reason: AdmitReason, encode_s: float, waits_s: Sequence[float]
    ) -> None:
        """Lines of so many distinct jobs were encoded together, after waiting so long (one time per line)."""

    def stepped(self, *, rows: int, jobs: int, step_s: float) -> None:
        """One step took `step_s` for so many rows with lines of so many distinct jobs."""

    def ran_out_of_memory(self, *, row_limit: int) -> None:
        """The device ran out of memory; from now on at most `row_limit` rows are used."""


class Batcher:
    """Keeps the rows of one model filled, from a thread that owns the device.

    Between two steps, waiting lines are admitted to free rows; lines that end are delivered at once, and their rows are
    free for the next ones. Every line that was submitted ends in exactly one of four ways: `on_read`, `on_failed`,
    canceled, or returned by `stop`. The callbacks and the observer run on the device's thread, so they hold up all
    rows; what they raise is logged.

    Args:
        recognizer: Called by the device's thread only.
        on_start: These lines are about to be admitted. If it raises, they are not admitted but fail with that
            exception. A line that is put back (out of memory, a step that failed) starts again later.
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
        self._recognizer = recognizer
        self._on_start = on_start
        self._on_settled = on_settled
        self._on_read = on_read
        self._on_failed = on_failed
        self._observer = observer
        self._clock = clock
        #: The device's thread alone uses it.
        self._encode_budget = EncodeBudget()
        #: Guards everything below; never held while the recognizer or a callback runs.
        self._changed = threading.Condition()
        self._queue = LineQueue()
        #: From the moment a line leaves the queue until it ends, so that a cancel always finds it.
        self._in_rows: dict[str, WaitingLine] = {}
        self._to_drop: set[str] = set()
        self._row_limit = RowLimit(recognizer.rows)
        self._stopping = False
        self._last_progress_at = clock()
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
        """Forget these lines: waiting ones now, those in rows before the next step; unknown keys are ignored.

        No callback begins for them once this has returned; one that is running may still end.
        """
        with self._changed:
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
    def in_rows(self) -> int:
        """Lines that are being started or read."""
        with self._changed:
            return len(self._in_rows)

    @property
    def row_limit(self) -> int:
        """Rows that are used at most: the recognizer's, or fewer since it ran out of memory."""
        with self._changed:
            return self._row_limit.now

    @property
    def last_progress_at(self) -> float:
        """When a turn of the device's thread last ended, or lines came after idleness; monotonic clock, seconds.

        Lines that wait or are in rows, and no progress for long, mean that the device hangs.
        """
        with self._changed:
            return self._last_progress_at

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until fewer lines wait than twice the rows; false when that did not happen in time, or on `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._has_room(), timeout_s)
            return self._has_room() and not self._stopping

    def stop(self, grace_s: float) -> list[QueuedLine]:
        """Admit nothing more, let the lines in rows end, and return those that were not read.

        No callback begins for the returned lines. A second call returns an empty list. Not to be called by a callback.

        Args:
            grace_s: How long the lines in rows may take to end, seconds.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._in_rows, grace_s)
            unread = [waiting.line for waiting in (*self._in_rows.values(), *self._queue.drain())]
            self._in_rows.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_LAST_STEP_S)
        return unread

    def turn(self) -> None:
        """Drop what was canceled, admit what may be admitted, and make one step; what the device's thread repeats.

        Raises:
            DeviceLost: No line has failed for it.
        """
        canceled, group = self._take()
        if canceled:
            self._recognizer.drop(canceled)
        if group:
            self._admit(group)
        if self.in_rows:
            self._step()
        self._progressed()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self.turn()
        except DeviceLost as error:
            # No line fails for it. That `last_progress_at` stands still ends the worker, and others read its lines.
            _log.critical("device_lost", error=str(error))

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._in_rows or self._queue or self._to_drop)
            return bool(self._in_rows) or not self._stopping

    def _has_room(self) -> bool:
        return len(self._queue) < 2 * self._row_limit.now

    def _take(self) -> tuple[set[str], list[WaitingLine]]:
        """The rows to free and the lines to admit after that.

        One critical section for both: a row that is canceled later is still counted as used, and its key may not be
        admitted again before it was dropped.
        """
        with self._changed:
            canceled, self._to_drop = self._to_drop, set()
            group = [] if self._stopping else self._admissible()
            self._in_rows.update((waiting.line.key, waiting) for waiting in group)
            self._changed.notify_all()
            return canceled, group

    def _admissible(self) -> list[WaitingLine]:
        in_rows = self._in_rows.values()
        if any(waiting.alone for waiting in in_rows):
            return []
        used = _rows(in_rows)
        lower = _rows(waiting for waiting in in_rows if waiting.line.priority > INTERACTIVE)
        free, size = self._row_limit.now - used, self._recognizer.group_size
        shared = min(free, self._row_limit.shared - lower)
        least = min(size.least, max(1, self._row_limit.shared // _LEAST_GROUPS))
        is_large_enough = not used or shared >= min(least, len(self._queue))
        is_in_budget = lower == used or self._encode_budget.allows_group
        return self._queue.take(
            free_rows=free,
            shared_rows=shared if is_large_enough and is_in_budget else 0,
            rows_in_use=used,
            most_lines=size.most,
        )

    def _admit(self, group: Sequence[WaitingLine]) -> None:
        try:
            self._on_start([waiting.line for waiting in group])
        except Exception as error:
            _log.warning("lines_not_started", lines=len(group), error=repr(error))
            self._fail(group, error)
            return
        if not self._encode(group):
            # One bad line must not fail its neighbours: each gets a chance of its own.
            for waiting in group:
                self._encode([waiting])

    def _encode(self, group: Sequence[WaitingLine]) -> bool:
        """Admit lines together; false when that failed for a reason that may lie in one of several."""
        group = self._still_wanted(group)
        if not group:
            return True
        started = self._clock()
        reason = self._reason(group)
        try:
            self._recognizer.admit({waiting.line.key: waiting.line.request for waiting in group})
        except DeviceLost:
            raise
        except RecognizerOutOfMemory as error:
            self._ran_out_of_memory(group, error)
        except Exception as error:
            if len(group) > 1:
                _log.warning("group_not_admitted", lines=len(group), error=repr(error))
                return False
            self._fail(group, error)
        else:
            encode_s = self._progressed() - started
            if any(waiting.line.priority > INTERACTIVE for waiting in group):
                self._encode_budget.count_group(encode_s)
            waits_s = [started - waiting.since for waiting in group]
            self._tell(
                self._observer.admitted,
                lines=len(group),
                jobs=_jobs(group),
                reason=reason,
                encode_s=encode_s,
                waits_s=waits_s,
            )
        return True

    def _step(self) -> None:
        with self._changed:
            rows = list(self._in_rows.values())
        started = self._clock()
        try:
            ended = self._recognizer.step()
        except DeviceLost:
            raise
        except RecognizerOutOfMemory as error:
            self._ran_out_of_memory(rows, error)
        except Exception as error:
            _log.warning("step_failed", lines=len(rows), error=repr(error))
            self._put_back([replace(waiting, second_try=True) for waiting in rows if not waiting.second_try])
            self._fail([waiting for waiting in rows if waiting.second_try], error)
        else:
            step_s = self._progressed() - started
            self._encode_budget.count_step(step_s)
            self._tell(self._observer.stepped, rows=_rows(rows), jobs=_jobs(rows), step_s=step_s)
            self._deliver(ended)
            self._show_watched()

    def _deliver(self, ended: Mapping[str, Recognition]) -> None:
        for key, recognition in ended.items():
            if (waiting := self._leave(key)) is not None:
                with self._changed:
                    self._row_limit.count_read()
                self._tell(self._on_read, waiting.line, recognition)

    def _show_watched(self) -> None:
        with self._changed:
            watched = {key: waiting.line for key, waiting in self._in_rows.items() if waiting.line.watched}
        if watched:
            for key, text in self._recognizer.settled(watched).items():
                self._tell(self._on_settled, watched[key], text)

    def _fail(self, group: Sequence[WaitingLine], error: Exception) -> None:
        for waiting in group:
            if self._leave(waiting.line.key) is not None:
                self._tell(self._on_failed, waiting.line, error)

    def _ran_out_of_memory(self, group: Sequence[WaitingLine], error: RecognizerOutOfMemory) -> None:
        """Halve what is used and put `group` back; a line that ran out alone fails, since less than one is nothing."""
        with self._changed:
            lines, used = len(self._in_rows), _rows(self._in_rows.values())
            self._row_limit.halve(used)
            row_limit = self._row_limit.now
        _log.warning("out_of_memory", rows=used, row_limit=row_limit, error=str(error))
        self._tell(self._observer.ran_out_of_memory, row_limit=row_limit)
        if lines > 1:
            self._put_back(group)
        else:
            self._fail(group, error)

    def _put_back(self, group: Sequence[WaitingLine]) -> None:
        with self._changed:
            for waiting in reversed(group):
                if self._in_rows.pop(waiting.line.key, None) is not None:
                    self._queue.push_front(waiting)
            self._changed.notify_all()

    def _leave(self, key: str) -> WaitingLine | None:
        """Take a line out of rows, once; None when it was canceled or given back."""
        with self._changed:
            waiting = self._in_rows.pop(key, None)
            self._changed.notify_all()
            return waiting

    def _still_wanted(self, group: Sequence[WaitingLine]) -> list[WaitingLine]:
        with self._changed:
            return [waiting for waiting in group if waiting.line.key in self._in_rows]

    def _reason(self, group: Sequence[WaitingLine]) -> AdmitReason:
        if any(waiting.alone for waiting in group):
            return AdmitReason.ALONE
        return AdmitReason.JOINED if self.in_rows > len(group) else AdmitReason.IDLE

    def _progressed(self) -> float:
        with self._changed:
            self._last_progress_at = self._clock()
            return self._last_progress_at

    def _tell(self, callback: Callable[..., None], *args: object, **figures: object) -> None:
        try:
            callback(*args, **figures)
        except Exception:
            _log.exception("callback_failed", callback=getattr(callback, "__qualname__", repr(callback)))


def _rows(lines: Iterable[WaitingLine]) -> int:
    return sum(waiting.rows for waiting in lines)


def _jobs(group: Sequence[WaitingLine]) -> int:
    return len({waiting.line.job_id for waiting in group})
