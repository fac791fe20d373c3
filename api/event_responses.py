"""Answers that come as server-sent events."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response

#: They keep proxies from holding events back.
_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}

#: For the description of the API: each event of such an answer.
EVENT_STREAM = {
    "text/event-stream": {
        "schema": {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
    }
}


def event_response(events: Iterator[str]) -> Response:
    """An answer that is sent event by event, as they happen.

    Source:
        Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return Response(events, mimetype="text/event-stream", headers=_HEADERS)
