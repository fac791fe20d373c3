"""One log line, one id and one count for each request."""

from __future__ import annotations

import re
import time

import structlog
from flask import Flask, Response, g, request
from prometheus_client import Counter, Histogram

from core.ids import new_id

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
#: Asked every few seconds by whoever watches; a line each would bury the others.
_UNLOGGED = frozenset({"/livez", "/readyz", "/metrics"})

_REQUESTS = Counter("inkqueue_requests", "Requests by route and status.", ["route", "method", "status"])
_SECONDS = Histogram("inkqueue_request_seconds", "Time to answer, waits included.", ["route", "method"])

_log = structlog.get_logger(__name__)


def register_request_log(app: Flask) -> None:
    """Give each request of the application an id, and tell the log how it was answered."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    sent = request.headers.get("X-Request-Id", "")
    g.request_id = sent if _REQUEST_ID.fullmatch(sent) else new_id("req")
    g.began_at = time.monotonic()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request=g.request_id)


def _end(response: Response) -> Response:
    took_s = time.monotonic() - g.began_at
    route = request.url_rule.rule if request.url_rule else "none"
    _REQUESTS.labels(route, request.method, response.status_code).inc()
    _SECONDS.labels(route, request.method).observe(took_s)
    response.headers["X-Request-Id"] = g.request_id
    response.headers["openai-processing-ms"] = str(round(took_s * 1000))
    if request.path not in _UNLOGGED:
        # Neither the query nor a body: they may hold what people wrote.
        _log.info(
            "request", method=request.method, path=request.path, status=response.status_code, ms=round(took_s * 1000)
        )
    return response
