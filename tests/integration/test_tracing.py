"""One trace and one request id, from a request over the worker to its webhook."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from flask.testing import FlaskClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.contextvars import merge_contextvars
from structlog.testing import LogCapture

from api.batch_rounds import Clerk
from tests.domain import MODEL, png, rows
from tests.fakes import FakeRecognizer
from tests.openai_clients import data_url
from tests.receiver import Received, receiving, status
from tests.waiting import wait_until
from tests.workers import pumped, worker_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
CALLERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "request-of-the-test"}
IMAGE = {"type": "image_url", "image_url": {"url": data_url(png())}}

pytestmark = pytest.mark.usefixtures("courier")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Stands where a collector is named."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("core.tracing._tracer", provider.get_tracer("inkqueue"))
    yield exporter
    provider.shutdown()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The log lines of the API, the worker and the courier, as they are printed."""
    capture = LogCapture()
    for module in ("api.request_log", "worker.finisher", "worker.delivery"):
        logger = structlog.wrap_logger(None, processors=[merge_contextvars, capture])
        monkeypatch.setattr(f"{module}._log", logger)
    return capture.entries


def read_one(http: FlaskClient, headers: dict[str, str]) -> Received:
    """A job from its request to its webhook: what the receiver got."""
    with receiving() as receiver, worker_of(FakeRecognizer()) as transcription:
        form = {"image": (io.BytesIO(png()), "line.png"), "webhook_url": receiver.url, "model": MODEL}
        assert http.post("/v1/jobs", data=form, headers=headers).status_code == 202
        with pumped(transcription):
            wait_until(lambda: rows("SELECT FROM webhook_deliveries WHERE status = 'delivered'"))
        (request,) = receiver.requests
    return request


def named(collector: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = (span for span in collector.get_finished_spans() if span.name == name)
    return found


def test_a_request_its_reading_and_its_webhook_are_one_trace(
    http: FlaskClient, collector: InMemorySpanExporter
) -> None:
    request = read_one(http, CALLERS)
    wait_until(lambda: len(collector.get_finished_spans()) == 3)
    spans = [named(collector, name) for name in ("POST /v1/jobs", "read image", "webhook")]
    asked, _, told = spans
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {TRACE}
    assert asked.parent and f"{asked.parent.span_id:016x}" == PARENT
    assert asked.context and {span.parent.span_id for span in spans[1:] if span.parent} == {asked.context.span_id}
    assert told.context and request.headers["traceparent"] == f"00-{TRACE}-{told.context.span_id:016x}-01"


def test_a_span_says_what_it_was_about(http: FlaskClient, collector: InMemorySpanExporter) -> None:
    read_one(http, CALLERS)
    wait_until(lambda: len(collector.get_finished_spans()) == 3)
    ((job_id, image_id),) = rows("SELECT job_id, id FROM images")
    assert dict(named(collector, "read image").attributes or {}) == {
        "inkqueue.job": job_id,
        "inkqueue.image": image_id,
        "inkqueue.model": MODEL,
        "inkqueue.outcome": "read",
    }
    assert (named(collector, "POST /v1/jobs").attributes or {})["http.response.status_code"] == 202
    assert (named(collector, "webhook").attributes or {})["http.response.status_code"] == 200


def test_without_a_collector_a_callers_trace_is_passed_on_as_it_is(http: FlaskClient) -> None:
    request = read_one(http, CALLERS)
    assert request.headers["traceparent"] == CALLERS["traceparent"]


def test_without_any_trace_none_is_made_up(http: FlaskClient) -> None:
    request = read_one(http, {})
    assert "traceparent" not in request.headers


def test_the_log_lines_of_all_processes_name_the_request_the_job_and_the_trace(
    http: FlaskClient, logged: list[Any]
) -> None:
    read_one(http, CALLERS)
    wait_until(lambda: len(logged) == 3)
    ((job_id,),) = rows("SELECT id FROM jobs")
    assert sorted(line["event"] for line in logged) == ["images ended", "request", "webhook"]
    assert {(line["request"], line["job"], line["trace"]) for line in logged} == {
        (CALLERS["X-Request-Id"], job_id, TRACE)
    }


def test_neither_the_log_nor_a_trace_repeats_where_a_receiver_redirects(
    http: FlaskClient, logged: list[Any], collector: InMemorySpanExporter
) -> None:
    with receiving(status(302, headers={"Location": "https://receiver/a-secret-address"})) as receiver:
        form = {"image": (io.BytesIO(png()), "line.png"), "webhook_url": receiver.url, "model": MODEL}
        job = http.post("/v1/jobs", data=form).headers["Location"]
        assert http.post(f"{job}/cancel").status_code == 200
        wait_until(lambda: any(line["event"] == "webhook" for line in logged))
    # It is tried again meanwhile.
    lines = {(line["status"], line["error"]) for line in logged if line["event"] == "webhook"}
    assert lines == {(302, None)}
    spans = [span for span in collector.get_finished_spans() if span.name == "webhook"]
    assert {span.status.status_code for span in spans} == {StatusCode.ERROR}
    told = "".join(span.to_json() for span in spans)
    assert "a-secret-address" not in f"{logged} {told}"
    assert "a-secret-address" in str(rows("SELECT error FROM webhook_attempts")), "its account may see it"


def test_the_jobs_of_a_batch_come_from_the_request_that_made_it(http: FlaskClient) -> None:
    asked_of_model = {"model": MODEL, "messages": [{"role": "user", "content": [IMAGE]}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": asked_of_model}
    file = {"file": (io.BytesIO(json.dumps(line).encode()), "batch.jsonl"), "purpose": "batch"}
    uploaded = http.post("/v1/files", data=file).get_json()["id"]
    asked = {"input_file_id": uploaded, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert http.post("/v1/batches", json=asked, headers=CALLERS).status_code == 200
    clerk = Clerk()
    wait_until(lambda: clerk.work_once(threading.Event()) and bool(rows("SELECT FROM jobs")))
    origin = {"request_id": CALLERS["X-Request-Id"], "traceparent": CALLERS["traceparent"]}
    assert rows("SELECT origin FROM batches UNION ALL SELECT origin FROM jobs") == [(origin,), (origin,)]
    assert "job" not in structlog.contextvars.get_contextvars(), "the next batch is not told of as this one's job"
