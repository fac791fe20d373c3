"""A recognizer with its batcher and nothing around it: what a service's figures are measured against."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count

from core.settings import settings
from core.states import Priority
from worker.batcher import Batcher, QueuedLine
from worker.metrics import PrometheusObserver
from worker.models import load_recognizer
from worker.recognizer import LinePixels, LineRequest, ModelCard, Recognition

_PATIENCE_S = 300.0


class BareRecognizer:
    """A model of the service, in this process.

    Args:
        model: As `INKQUEUE_MODELS` names it.
    """

    def __init__(self, model: str) -> None:
        recognizer = load_recognizer(model, settings())
        self.card: ModelCard = recognizer.card
        self._keys = count()
        self._changed = threading.Condition()
        self._unread = 0
        self._batcher = Batcher(
            recognizer,
            on_start=lambda _: None,
            on_settled=lambda _, __: None,
            on_read=self._on_read,
            on_failed=_raise,
            observer=PrometheusObserver(model, rows=recognizer.rows),
        )
        self._batcher.start()

    def read(self, lines: Sequence[LinePixels]) -> None:
        """Read lines, all of which wait from the beginning.

        Raises:
            TimeoutError: They were not read in five minutes.
        """
        with self._changed:
            self._unread += len(lines)
        for pixels in lines:
            request = LineRequest(pixels=pixels)
            self._batcher.submit(
                QueuedLine(
                    key=str(next(self._keys)), request=request, priority=Priority.NORMAL, job_id="job", alone=False
                )
            )
        with self._changed:
            if not self._changed.wait_for(lambda: not self._unread, _PATIENCE_S):
                raise TimeoutError(f"{self._unread} lines were not read")

    def _on_read(self, line: QueuedLine, recognition: Recognition) -> None:
        del line, recognition
        with self._changed:
            self._unread -= 1
            self._changed.notify_all()


def _raise(line: QueuedLine, error: Exception) -> None:
    raise RuntimeError(f"line {line.key} was not read") from error
