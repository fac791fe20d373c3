"""What a worker counts, under Prometheus names; told by the batcher and by whoever ends images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from core.errors import InkqueueError
from core.transcript import Line
from worker.batcher import AdmitReason, Batcher

_SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_MODEL = ["model"]

_BATCH_LINES = Histogram("inkqueue_batch_lines", "Rows in use at each step of the model.", _MODEL, buckets=_SIZES)
_BATCH_JOBS = Histogram("inkqueue_batch_jobs", "Jobs whose lines were in one step.", _MODEL, buckets=_SIZES)
_ADMITTED = Counter("inkqueue_admitted_lines", "Lines that were given a row, by why then.", ["model", "reason"])
_WAIT = Histogram("inkqueue_line_wait_seconds", "Wait of a line for a row.", _MODEL, buckets=_SECONDS)
_ENCODE = Histogram("inkqueue_encode_seconds", "Wait for the encoding of a group of lines.", _MODEL, buckets=_SECONDS)
_STEP = Histogram("inkqueue_step_seconds", "One decode step of all rows.", _MODEL, buckets=_SECONDS)
_OUT_OF_MEMORY = Counter("inkqueue_out_of_memory", "Times that the device had no room.", _MODEL)
_IMAGES = Counter("inkqueue_images", "Images that ended, by outcome.", ["model", "outcome"])
_LINES = Counter("inkqueue_lines", "Lines that were read, blank ones included.", _MODEL)
_TOKENS = Counter("inkqueue_tokens", "Tokens of these lines.", _MODEL)
_FLAGS = Counter("inkqueue_flagged_lines", "Lines that were flagged, by flag.", ["model", "flag"])

# Of several workers that share a folder of figures the last one's is shown: one that was killed leaves no trace.
_LAST: Literal["livemostrecent"] = "livemostrecent"
_ROW_LIMIT = Gauge("inkqueue_row_limit", "Rows in use at most.", _MODEL, multiprocess_mode=_LAST)
_ROWS_IN_USE = Gauge("inkqueue_rows_in_use", "Lines that are being read.", _MODEL, multiprocess_mode=_LAST)
_WAITING = Gauge("inkqueue_waiting_lines", "Lines in the worker that wait for a row.", _MODEL, multiprocess_mode=_LAST)
_OLDEST = Gauge("inkqueue_oldest_line_seconds", "Wait of the oldest of them.", _MODEL, multiprocess_mode=_LAST)


class PrometheusObserver:
    """Tells Prometheus what one model's batcher does; see `worker.batcher.BatchObserver`."""

    def __init__(self, model: str, *, rows: int) -> None:
        self._model = model
        _ROW_LIMIT.labels(model).set(rows)
        # Told as 0 from the start: of a series that begins with its first event, Prometheus sees no increase.
        _OUT_OF_MEMORY.labels(model)
        _LINES.labels(model)
        for outcome in ("read", InkqueueError.code):
            _IMAGES.labels(model, outcome)

    def admitted(
        self, *, lines: int, jobs: int, reason: AdmitReason, encode_s: float, waits_s: Sequence[float]
    ) -> None:
        """Count a group that was encoded."""
        del jobs  # the step that follows counts the jobs of all rows
        _ADMITTED.labels(self._model, reason.value).inc(lines)
        _ENCODE.labels(self._model).observe(encode_s)
        for wait_s in waits_s:
            _WAIT.labels(self._model).observe(wait_s)

    def stepped(self, *, rows: int, jobs: int, step_s: float) -> None:
        """Count a step."""
        _BATCH_LINES.labels(self._model).observe(rows)
        _BATCH_JOBS.labels(self._model).observe(jobs)
        _STEP.labels(self._model).observe(step_s)

    def ran_out_of_memory(self, *, row_limit: int) -> None:
        """Count an out-of-memory event."""
        _OUT_OF_MEMORY.labels(self._model).inc()
        _ROW_LIMIT.labels(self._model).set(row_limit)


def show_batcher(model: str, batcher: Batcher) -> None:
    """Show what a batcher holds now."""
    _ROWS_IN_USE.labels(model).set(batcher.in_rows)
    _WAITING.labels(model).set(batcher.backlog)
    _OLDEST.labels(model).set(batcher.oldest_wait_s)


def count_image(model: str, *, outcome: str, lines: Sequence[Line]) -> None:
    """Count an image that ended: `read`, or the code of its error, with its lines."""
    _IMAGES.labels(model, outcome).inc()
    _LINES.labels(model).inc(len(lines))
    _TOKENS.labels(model).inc(sum(line.token_count or 0 for line in lines))
    for line in lines:
        for flag in line.flags:
            _FLAGS.labels(model, flag.value).inc()
