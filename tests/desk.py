"""A batcher for tests, whose turns they make, and which notes what it was told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from tests.fakes import FakeRecognizer, SilentObserver, line_of
from worker.batcher import AdmitReason, Batcher, QueuedLine
from worker.recognizer import Recognition


class Desk:
    """A batcher whose turns the test makes, and what it was told."""

    def __init__(self, recognizer: FakeRecognizer, *, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.recognizer = recognizer
        self.started_lines: list[QueuedLine] = []
        self.settled: list[tuple[str, str]] = []
        self.read: list[str] = []
        self.failed: dict[str, Exception] = {}
        self.refuse_start: Exception | None = None
        self.read_raises: Exception | None = None
        self.observer = RecordingObserver()
        self._told = threading.Condition()
        self.batcher = Batcher(
            recognizer,
            on_start=self._on_start,
            on_settled=lambda line, text: self.settled.append((line.key, text)),
            on_read=self._on_read,
            on_failed=self._on_failed,
            observer=self.observer,
            clock=clock,
        )

    @property
    def started(self) -> list[str]:
        return [line.key for line in self.started_lines]

    def submit(
        self,
        key: str,
        *,
        tokens: int = 1,
        priority: int = 1,
        job_id: str = "job",
        alone: bool = False,
        watched: bool = False,
    ) -> None:
        self.batcher.submit(
            QueuedLine(key=key, request=line_of(tokens), priority=priority, job_id=job_id, alone=alone, watched=watched)
        )

    def submit_all(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.submit(key, tokens=3)

    def turns(self, count: int = 1) -> None:
        for _ in range(count):
            self.batcher.turn()

    def finish(self) -> None:
        for _ in range(1000):
            if not (self.batcher.backlog or self.batcher.in_rows):
                return
            self.batcher.turn()
        pytest.fail("the lines do not end")

    def wait_for_reads(self, count: int) -> bool:
        with self._told:
            return self._told.wait_for(lambda: len(self.read) >= count, timeout=5.0)

    def _on_start(self, lines: Sequence[QueuedLine]) -> None:
        self.started_lines += lines
        if self.refuse_start is not None:
            raise self.refuse_start

    def _on_read(self, line: QueuedLine, recognition: Recognition) -> None:
        assert recognition.text == f"text of {line.key}"
        with self._told:
            self.read.append(line.key)
            self._told.notify_all()
        if self.read_raises is not None:
            raise self.read_raises

    def _on_failed(self, line: QueuedLine, error: Exception) -> None:
        assert line.key not in self.failed
        self.failed[line.key] = error


class RecordingObserver(SilentObserver):
    """Notes the figures that it is told."""

    def __init__(self) -> None:
        self.groups: list[tuple[int, int, AdmitReason]] = []
        self.steps: list[tuple[int, int]] = []
        self.row_limits: list[int] = []

    def admitted(
        self, *, lines: int, jobs: int, reason: AdmitReason, encode_s: float, waits_s: Sequence[float]
    ) -> None:
        assert encode_s >= 0
        assert len(waits_s) == lines
        assert min(waits_s) >= 0
        self.groups.append((lines, jobs, reason))

    def stepped(self, *, rows: int, jobs: int, step_s: float) -> None:
        assert step_s >= 0
        self.steps.append((rows, jobs))

    def ran_out_of_memory(self, *, row_limit: int) -> None:
        self.row_limits.append(row_limit)
