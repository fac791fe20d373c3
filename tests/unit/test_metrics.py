"""What a worker's batcher tells Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import REGISTRY

from core.transcript import BoundingBox, Flag, Line
from tests.fakes import FakeRecognizer, line_of
from worker.batcher import Batcher, QueuedLine
from worker.metrics import PrometheusObserver, count_image, show_batcher


class Desk:
    """A batcher over eight rows that tells Prometheus, under a model's name of the test's own."""

    def __init__(self, model: str, *, memory_rows: int = 8) -> None:
        self.model = model
        self.batcher = Batcher(
            FakeRecognizer(rows=8, memory_rows=memory_rows),
            on_start=lambda _: None,
            on_settled=lambda _, __: None,
            on_read=lambda _, __: None,
            on_failed=lambda _, __: None,
            observer=PrometheusObserver(model, rows=8),
        )

    def submit(self, key: str, *, job_id: str = "job", tokens: int = 2, alone: bool = False) -> None:
        self.batcher.submit(QueuedLine(key=key, request=line_of(tokens), priority=0, job_id=job_id, alone=alone))

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.batcher.turn()

    def figure(self, name: str, **labels: str) -> float:
        found = REGISTRY.get_sample_value(name, {"model": self.model, **labels})
        return 0.0 if found is None else found

    def shown(self) -> tuple[float, float]:
        show_batcher(self.model, self.batcher)
        return self.figure("inkqueue_rows_in_use"), self.figure("inkqueue_waiting_lines")


def test_steps_are_counted_by_the_rows_and_jobs_in_them() -> None:
    desk = Desk("steps")
    for key in "abc":
        desk.submit(key, job_id=f"job {key in 'ab'}")
    desk.turns(2)
    assert desk.figure("inkqueue_batch_lines_count") == 2
    assert desk.figure("inkqueue_batch_lines_sum") == 6
    assert desk.figure("inkqueue_batch_lines_bucket", le="2.0") == 0
    assert desk.figure("inkqueue_batch_lines_bucket", le="4.0") == 2
    assert desk.figure("inkqueue_batch_jobs_sum") == 4


def test_encoding_steps_and_waits_are_timed() -> None:
    desk = Desk("times")
    for key in "abc":
        desk.submit(key)
    desk.turns(2)
    for name, count in (("encode", 1), ("step", 2), ("line_wait", 3)):
        assert desk.figure(f"inkqueue_{name}_seconds_count") == count
        assert desk.figure(f"inkqueue_{name}_seconds_sum") > 0


def test_it_is_told_why_lines_were_given_rows() -> None:
    desk = Desk("reasons")
    desk.submit("first")
    desk.turns(1)
    desk.submit("joins")
    desk.submit("suspect", alone=True)
    desk.turns(4)
    reasons = {
        reason: desk.figure("inkqueue_admitted_lines_total", reason=reason) for reason in ("idle", "joined", "alone")
    }
    assert reasons == {"idle": 1, "joined": 1, "alone": 1}


def test_what_waits_and_what_is_in_rows_is_shown() -> None:
    desk = Desk("now")
    assert desk.shown() == (0, 0)
    for key in "abcdefghij":
        desk.submit(key)
    assert desk.shown() == (0, 10)
    assert desk.figure("inkqueue_oldest_line_seconds") > 0
    desk.turns(1)
    assert desk.shown() == (8, 2)
    desk.turns(8)
    assert desk.shown() == (0, 0)
    assert desk.figure("inkqueue_oldest_line_seconds") == 0


def test_running_out_of_memory_is_counted_and_lowers_the_limit_of_rows() -> None:
    desk = Desk("memory", memory_rows=2)
    assert desk.figure("inkqueue_row_limit") == 8
    for key in "abcd":
        desk.submit(key)
    desk.turns(1)
    assert desk.figure("inkqueue_out_of_memory_total") == 1
    assert desk.figure("inkqueue_row_limit") == 2


def test_images_lines_tokens_and_flags_are_counted_where_images_end() -> None:
    def line(tokens: int, flags: Sequence[Flag]) -> Line:
        box = BoundingBox(xmin=0, ymin=0, xmax=1, ymax=1)
        return Line(index=0, text="", confidence=None, bbox=box, flags=tuple(flags), words=(), token_count=tokens)

    desk = Desk("ends")
    count_image("ends", outcome="read", lines=[line(12, [Flag.LONG_LINE, Flag.REPETITION]), line(3, [Flag.LONG_LINE])])
    count_image("ends", outcome="invalid_image", lines=[])
    assert desk.figure("inkqueue_images_total", outcome="read") == 1
    assert desk.figure("inkqueue_images_total", outcome="invalid_image") == 1
    assert desk.figure("inkqueue_lines_total") == 2
    assert desk.figure("inkqueue_tokens_total") == 15
    assert desk.figure("inkqueue_flagged_lines_total", flag="long_line") == 2
    assert desk.figure("inkqueue_flagged_lines_total", flag="repetition") == 1
