"""Answers that come as server-sent events."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response

#: They keep proxies from holding events back.
_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


def event_response(events: Iterator[str]) -> Response:
    """An answer that is sent event by event, as they happen.

    Source:
        Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return Response(events, mimetype="text/event-stream", headers=_HEADERS)
