"""The waiting lines that are encoded beside the steps of others, before there are rows for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from worker.batched_lines import BatchedLines
from worker.line_queue import QueuedLine, WaitingLine
from worker.recognizer import AheadEncoder

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Started:
    """A line that waits, and of which `on_start` was told."""

    line: QueuedLine
    #: Whether it raised. It is told again as the line is admitted.
    refused: bool


class LinesAhead:
    """Keeps an encoder told of the lines that come next; they stay in the queue, which alone says whose turn it is.

    Args:
        encoder: Called by the device's thread only, as this is; None encodes nothing ahead.
        lines: Never locked while the encoder or the callback runs.
        on_start: These lines are about to be encoded. Those for which it raises are not encoded ahead.
    """

    def __init__(
        self, encoder: AheadEncoder | None, lines: BatchedLines, on_start: Callable[[Sequence[QueuedLine]], None]
    ) -> None:
        self._encoder = encoder
        self._lines = lines
        self._on_start = on_start
        #: By key.
        self._started: dict[str, _Started] = {}

    def look(self) -> None:
        """Have the lines encoded that come next; where somebody waits for the steps, begin none."""
        if self._encoder is None:
            return
        most = self._encoder.most
        following = self._lines.following(2 * most)
        may_begin = self._lines.nobody_waits
        # What a few more urgent lines have overtaken is not thrown away.
        next_lines = following[:most] if may_begin else []
        kept = [line for line in following[len(next_lines) :] if self._is_started(line)]
        if new := [line for line in next_lines if not self._is_started(line)]:
            self._start(new)
        self._started = {line.key: self._started[line.key] for line in (*next_lines, *kept)}
        requests = [started.line.request for started in self._started.values() if not started.refused]
        if may_begin:
            self._encoder.want(requests)
        else:
            self._encoder.keep(requests)

    def admit(self, group: Sequence[WaitingLine]) -> None:
        """These lines are admitted next: nothing is encoded beside them if one must be alone."""
        for waiting in group:
            self._started.pop(waiting.line.key, None)
        if any(waiting.alone for waiting in group):
            self.forget()

    def forget(self) -> bool:
        """Let nothing be encoded ahead any more; whether there may have been anything."""
        if self._encoder is None:
            return False
        had_started = any(not started.refused for started in self._started.values())
        self._started = {}
        self._encoder.forget()
        return had_started

    def _is_started(self, line: QueuedLine) -> bool:
        started = self._started.get(line.key)
        return started is not None and started.line is line

    def _start(self, lines: Sequence[QueuedLine]) -> None:
        try:
            # What is encoded is started: it may be what kills the worker.
            self._on_start(lines)
            refused = False
        except Exception as error:
            _log.warning("lines_not_encoded_ahead", lines=len(lines), error=repr(error))
            refused = True
        self._started.update((line.key, _Started(line=line, refused=refused)) for line in lines)
