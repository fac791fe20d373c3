"""The path of a job's events."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import Field

from api.auth import authenticate, caller
from api.event_responses import EVENT_STREAM, event_response
from api.event_stream import open_stream
from api.own_ids import resolve_own_id
from api.problems import ERROR_RESPONSES
from api.request_fields import Sent
from api.request_schemas import JobPath
from core.errors import MalformedRequest

_MOST_DIGITS = 18

event_routes = APIBlueprint(
    "events",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="Jobs")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
event_routes.before_request(authenticate)
event_routes.before_request(resolve_own_id)


class EventQuery(Sent):
    """Where a stream begins, for clients that cannot send a header."""

    after: int = Field(0, ge=0, lt=2**62, description="The version after which to begin, as `Last-Event-ID`.")


@event_routes.get("/<job_id>/events", responses={200: {"content": EVENT_STREAM}, 204: None})
def stream_events(path: JobPath, query: EventQuery) -> Response:
    """Follow a job: `status`, `line`, `image` and `done` events as they happen (server-sent events).

    Each event's id is the job's version. Sent back as `Last-Event-ID`, it resumes the stream behind that event, with
    nothing missing and nothing doubled; 204 says that nothing is left to tell.
    """
    events = open_stream(caller(), path.job_id, after=_last_event_id(query.after))
    if events is None:
        return Response(status=HTTPStatus.NO_CONTENT)
    return event_response(events)


def _last_event_id(otherwise: int) -> int:
    sent = request.headers.get("Last-Event-ID", "").strip()
    if not sent:
        return otherwise
    if not (sent.isascii() and sent.isdigit() and len(sent) <= _MOST_DIGITS):
        raise MalformedRequest("Last-Event-ID is the id of an event of this job: a number", param="Last-Event-ID")
    return int(sent)
