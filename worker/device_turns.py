"""What the device's thread does between two looks at the lines: free rows, admit lines, make a step, deliver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from worker.batch_observer import AdmitReason, BatchObserver
from worker.batched_lines import BatchedLines, Turn, rows_of
from worker.encode_budget import EncodeBudget
from worker.line_queue import INTERACTIVE, QueuedLine, WaitingLine
from worker.lines_ahead import LinesAhead
from worker.recognizer import DeviceLost, Recognition, Recognizer, RecognizerOutOfMemory

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchCallbacks:
    """Who is told what becomes of lines, as `worker.batcher.Batcher` says."""

    on_start: Callable[[Sequence[QueuedLine]], None]
    on_settled: Callable[[QueuedLine, str], None]
    on_read: Callable[[QueuedLine, Recognition], None]
    on_failed: Callable[[QueuedLine, Exception], None]
    observer: BatchObserver


class DeviceTurns:
    """Uses a recognizer for the lines of a batcher; one thread makes the turns.

    Args:
        recognizer: Called here only.
        lines: Never locked while the recognizer or a callback runs.
        callbacks: What they raise is logged.
        clock: Seconds that never go back.
    """

    def __init__(
        self, recognizer: Recognizer, lines: BatchedLines, callbacks: BatchCallbacks, clock: Callable[[], float]
    ) -> None:
        self._recognizer = recognizer
        self._lines = lines
        self._callbacks = callbacks
        self._clock = clock
        self._encode_budget = EncodeBudget()
        self._ahead = LinesAhead(recognizer.ahead, lines, callbacks.on_start)

    def make(self) -> None:
        """Make one turn.

        Raises:
            DeviceLost: No line has failed for it.
        """
        turn = self._lines.next_turn(self._recognizer.group_size, allows_group=self._encode_budget.allows_group)
        if turn.canceled:
            self._drop(turn)
        if turn.group:
            self._admit(turn.group)
        self._ahead.look()
        if self._lines.in_rows:
            self._step()
        self._lines.count_progress()

    def end(self) -> None:
        """Let nothing be under way when no turn is made any more."""
        self._ahead.forget()

    def _drop(self, turn: Turn) -> None:
        joining = {waiting.line.key for waiting in turn.group}
        rows = [waiting for waiting in self._lines.in_rows if waiting.line.key not in joining]
        try:
            self._recognizer.drop(turn.canceled)
        except DeviceLost:
            raise
        except Exception as error:
            _log.warning("rows_not_freed", lines=len(rows), error=repr(error))
            self._try_again_alone(rows, error)

    def _admit(self, group: Sequence[WaitingLine]) -> None:
        self._ahead.admit(group)
        try:
            self._callbacks.on_start([waiting.line for waiting in group])
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
        in_rows = self._lines.in_rows
        wanted = {waiting.line.key for waiting in in_rows}
        group = [waiting for waiting in group if waiting.line.key in wanted]
        if not group:
            return True
        started = self._clock()
        try:
            self._recognizer.admit({waiting.line.key: waiting.line.request for waiting in group})
        except DeviceLost:
            raise
        except RecognizerOutOfMemory as error:
            self._ran_out_of_memory(in_rows, group, error)
        except Exception as error:
            if len(group) > 1:
                _log.warning("group_not_admitted", lines=len(group), error=repr(error))
                return False
            self._fail(group, error)
        else:
            encode_s = self._lines.count_progress() - started
            if any(waiting.line.priority > INTERACTIVE for waiting in group):
                self._encode_budget.count_group(encode_s)
            _tell(
                self._callbacks.observer.admitted,
                lines=len(group),
                jobs=_jobs(group),
                reason=_reason(group, joins=len(in_rows) > len(group)),
                encode_s=encode_s,
                waits_s=[started - waiting.since for waiting in group],
            )
        return True

    def _step(self) -> None:
        rows = self._lines.in_rows
        started = self._clock()
        try:
            ended = self._recognizer.step()
        except DeviceLost:
            raise
        except RecognizerOutOfMemory as error:
            self._ran_out_of_memory(rows, rows, error)
        except Exception as error:
            _log.warning("step_failed", lines=len(rows), error=repr(error))
            self._try_again_alone(rows, error)
        else:
            step_s = self._lines.count_progress() - started
            self._encode_budget.count_step(step_s)
            _tell(self._callbacks.observer.stepped, rows=rows_of(rows), jobs=_jobs(rows), step_s=step_s)
            self._deliver(ended)
            self._show_watched()

    def _deliver(self, ended: Mapping[str, Recognition]) -> None:
        for key, recognition in ended.items():
            if (waiting := self._lines.leave(key)) is not None:
                self._lines.count_read()
                _tell(self._callbacks.on_read, waiting.line, recognition)

    def _show_watched(self) -> None:
        watched = {waiting.line.key: waiting.line for waiting in self._lines.in_rows if waiting.line.watched}
        if not watched:
            return
        try:
            settled = self._recognizer.settled(watched)
        except DeviceLost:
            raise
        except Exception as error:
            # Nothing is lost but a look at texts that are still being read.
            _log.warning("texts_not_shown", lines=len(watched), error=repr(error))
            return
        for key, text in settled.items():
            _tell(self._callbacks.on_settled, watched[key], text)

    def _try_again_alone(self, rows: Sequence[WaitingLine], error: Exception) -> None:
        """The rows of these lines are lost: each gets a second try, and fails if it was that."""
        self._lines.put_back([replace(waiting, second_try=True) for waiting in rows if not waiting.second_try])
        self._fail([waiting for waiting in rows if waiting.second_try], error)

    def _fail(self, group: Sequence[WaitingLine], error: Exception) -> None:
        for waiting in group:
            if self._lines.leave(waiting.line.key) is not None:
                _tell(self._callbacks.on_failed, waiting.line, error)

    def _ran_out_of_memory(
        self, in_rows: Sequence[WaitingLine], group: Sequence[WaitingLine], error: RecognizerOutOfMemory
    ) -> None:
        """Put `group` back, and use less: nothing ahead, or half of the rows. A line that ran out alone fails.

        Args:
            in_rows: The lines for which there was no room; some may have been canceled meanwhile.
            group: Those of them that have no row now.
            error: What the recognizer raised.
        """
        used = rows_of(in_rows)
        had_ahead = self._ahead.forget()
        if had_ahead:
            self._lines.encode_none_ahead()
        else:
            self._lines.halve_rows(used)
        row_limit = self._lines.row_limit
        _log.warning("out_of_memory", rows=used, row_limit=row_limit, ahead=had_ahead, error=str(error))
        _tell(self._callbacks.observer.ran_out_of_memory, row_limit=row_limit)
        if had_ahead or len(in_rows) > 1:
            self._lines.put_back(group)
        else:
            self._fail(group, error)


def _reason(group: Sequence[WaitingLine], *, joins: bool) -> AdmitReason:
    if any(waiting.alone for waiting in group):
        return AdmitReason.ALONE
    return AdmitReason.JOINED if joins else AdmitReason.IDLE


def _jobs(group: Sequence[WaitingLine]) -> int:
    return len({waiting.line.job_id for waiting in group})


def _tell(callback: Callable[..., None], *args: object, **figures: object) -> None:
    try:
        callback(*args, **figures)
    except Exception:
        _log.exception("callback_failed", callback=getattr(callback, "__qualname__", repr(callback)))
