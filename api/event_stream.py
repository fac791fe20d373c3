"""A job's events as they happen: server-sent events that a client may resume where it was cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from pydantic import BaseModel

from api.event_schemas import DoneEventBody, ImageEventBody, LineEventBody, StatusEventBody
from api.schemas import FailureBody, LineBody
from api.waiting import Watch, job_waits
from core.accounts import Caller
from core.database import looking
from core.errors import Gone
from core.image_views import ErrorView
from core.job_events import EventKind, EventView, events_after
from core.job_views import job_version

#: A comment so often keeps proxies from closing a silent stream, and finds out that the client has gone.
_KEEP_ALIVE_S = 15.0
#: When a client whose stream ended before its job comes back.
_RECONNECT_MS = 1000


def open_stream(caller: Caller, job_id: str, *, after: int) -> Iterator[str] | None:
    """The events of a job behind version `after`, as they happen, until its last; None when that has been told.

    Where too many wait already, the stream ends with what has happened so far, and the client comes back for more.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.

    Source:
        Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    with ExitStack() as opening:
        watch = opening.enter_context(job_waits().watching(caller, job_id))
        # Read before the answer begins, while an error can still be one.
        events, ended = _read(caller, job_id, after)
        if ended and not events:
            return None
        return _stream(caller, job_id, after, watch, opening.pop_all())


def _stream(caller: Caller, job_id: str, after: int, watch: Watch, open_until_end: ExitStack) -> Iterator[str]:
    with open_until_end:
        yield f"retry: {_RECONNECT_MS}\n\n"
        told_at = time.monotonic()
        while True:
            try:
                events, ended = _read(caller, job_id, after)
            except Gone:
                yield "event: deleted\ndata: {}\n\n"
                return
            for event in events:
                yield _rendered(job_id, event)
                after, told_at = event.version, time.monotonic()
            if not events:
                if ended or watch.over:
                    return
                if time.monotonic() - told_at >= _KEEP_ALIVE_S:
                    yield ": still there\n\n"
                    told_at = time.monotonic()
                watch.pause(_KEEP_ALIVE_S)


def _read(caller: Caller, job_id: str, after: int) -> tuple[list[EventView], bool]:
    with looking() as connection:
        version, status = job_version(connection, caller, job_id)
        events = events_after(connection, job_id, after)
    if status.terminal and not events and after < version:
        # A job that ended before events were written, or a caller who names a version that never was.
        events = [EventView(version=version, kind=EventKind.DONE, status=status)]
    return events, status.terminal


def _rendered(job_id: str, event: EventView) -> str:
    return f"id: {event.version}\nevent: {event.kind}\ndata: {_body(job_id, event).model_dump_json()}\n\n"


def _body(job_id: str, event: EventView) -> BaseModel:
    job = {"job_id": job_id, "version": event.version}
    if event.status is not None and event.kind is EventKind.DONE:
        return DoneEventBody(**job, status=event.status.value, url=f"/v1/jobs/{job_id}")
    if event.status is not None and event.kind is EventKind.STATUS:
        return StatusEventBody(**job, status=event.status.value)
    image = {"image_id": event.image_id, "image_index": event.image_index, "image_key": event.image_key}
    if event.line is not None:
        return LineEventBody(**job, **image, line=LineBody.of(event.line))
    error = ErrorView(code=event.error_code, message=event.error_message or "") if event.error_code else None
    return ImageEventBody(**job, **image, status=event.status, error=FailureBody.of(error))
