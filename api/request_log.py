"""One log line, one id and one count for each request."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack

import structlog
from flask import Flask, Response, g, request
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import Counter, Histogram

from core.ids import new_id
from core.origin import Origin, begin_request
from core.tracing import span

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
#: Asked every few seconds by whoever watches; a line each would bury the others.
_UNLOGGED = frozenset({"/livez", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_REQUESTS = Counter("inkqueue_requests", "Requests by route and status.", ["route", "method", "status"])
_SECONDS = Histogram("inkqueue_request_seconds", "Time to answer, waits included.", ["route", "method"])

_log = structlog.get_logger(__name__)


def register_request_log(app: Flask) -> None:
    """Give each request of the application an id, and tell the log how it was answered."""
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_close_span)


def _begin() -> None:
    sent = request.headers.get("X-Request-Id", "")
    g.request_id = sent if _REQUEST_ID.fullmatch(sent) else new_id("req")
    g.began_at = time.monotonic()
    begin_request(g.request_id)
    _open_span()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**Origin.here().log_fields())


def _open_span() -> None:
    g.open_span = ExitStack()
    if request.path in _UNLOGGED:
        return
    route, method = _kind()
    about = {"http.request.method": method, "http.route": route, "inkqueue.request": g.request_id}
    begun = span(f"{method} {route}", SpanKind.SERVER, parent=request.headers.get("traceparent"), attributes=about)
    g.span = g.open_span.enter_context(begun)


def _close_span(error: BaseException | None) -> None:
    del error  # it was answered
    if opened := g.pop("open_span", None):
        opened.close()


def _end(response: Response) -> Response:
    took_s = time.monotonic() - g.began_at
    route, method = _kind()
    _REQUESTS.labels(route, method, response.status_code).inc()
    _SECONDS.labels(route, method).observe(took_s)
    response.headers["X-Request-Id"] = g.request_id
    response.headers["openai-processing-ms"] = str(round(took_s * 1000))
    if request.path not in _UNLOGGED:
        g.span.set_attribute("http.response.status_code", response.status_code)
        if response.status_code >= 500:
            g.span.set_status(StatusCode.ERROR)
        # Neither the query nor a body: they may hold what people wrote.
        _log.info(
            "request", method=request.method, path=request.path, status=response.status_code, ms=round(took_s * 1000)
        )
    return response


def _kind() -> tuple[str, str]:
    """Route and method as figures and spans have them: few, whatever a stranger sends."""
    route = request.url_rule.rule if request.url_rule else "none"
    # Anybody may make methods up; each would begin a score of series, for ever. The name is OpenTelemetry's.
    return route, request.method if request.method in _METHODS else "_OTHER"
