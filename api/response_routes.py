"""The paths of responses."""

from __future__ import annotations

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from api.auth import authenticate, caller
from api.client_socket import presence_of
from api.event_responses import event_response
from api.idempotency import once_of
from api.json_bodies import read_json
from api.openai_schemas import priority_of
from api.problems import ERROR_RESPONSES, speak_as_openai
from api.prompt_jobs import response_lines
from api.prompt_readings import CLIENT_CLOSED_REQUEST, ClientGone, Prompt, read_whole, submitted
from api.response_schemas import DeletedResponseBody, ResponseBody, ResponsePath, ResponseQuery, ResponseRequest
from api.response_stream import response_stream
from core import jobs
from core.database import transaction
from core.errors import AlreadyFinished, Gone, NotFound, UnsupportedOperation, UnsupportedParameter
from core.readings import Reading, reading
from core.states import Priority, Status

response_routes = APIBlueprint(
    "responses",
    __name__,
    url_prefix="/v1/responses",
    abp_tags=[Tag(name="OpenAI")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
response_routes.before_request(speak_as_openai)
response_routes.before_request(authenticate)


@response_routes.post("", responses={200: ResponseBody})
def create_response() -> Response:
    """Read the images of an input, one text line each, in order; the answer is their text, a row an image.

    With `background` the answer comes at once, and the job goes on at the priority `normal`: look at it with
    `GET /v1/responses/{id}`. With `stream` the text comes piece by piece while it is read. A client that goes away
    cancels it, unless it is in the background or was sent with an `Idempotency-Key`.
    """
    once = once_of(request)
    asked = read_json(request, ResponseRequest)
    priority = priority_of(asked.service_tier)
    if asked.background:
        priority = max(priority, Priority.NORMAL)
    prompt = submitted(
        caller(),
        once,
        lambda: response_lines(asked, priority=priority).job(caller().account_id),
        may_come_back=bool(asked.background),
        waits=bool(asked.stream or not asked.background),
    )
    is_there = presence_of(request.environ)
    if asked.stream:
        return event_response(response_stream(prompt, _read(prompt.job_id), is_there))
    if asked.background:
        return _json(ResponseBody.of(_read(prompt.job_id)))
    try:
        return _json(ResponseBody.of(read_whole(prompt, is_there)))
    except ClientGone:
        return Response(status=CLIENT_CLOSED_REQUEST)


@response_routes.get("/<response_id>", responses={200: ResponseBody})
def get_response(path: ResponsePath, query: ResponseQuery) -> Response:
    """Look at a response; any job that reads lines can be seen as one.

    With `stream` it comes as the events of its creation, from the first on; whoever leaves them cancels nothing.
    """
    if query.starting_after is not None:
        raise UnsupportedParameter(
            "events are not kept: leave starting_after out, and they come from the first on", param="starting_after"
        )
    found = _read(path.job_id)
    if query.stream:
        prompt = Prompt(caller=caller(), job_id=path.job_id, may_come_back=True)
        return event_response(response_stream(prompt, found, presence_of(request.environ)))
    return _json(ResponseBody.of(found))


@response_routes.get("/<response_id>/input_items")
def list_input_items(path: ResponsePath) -> Response:
    """Not available: what was sent is not told back, and of its text nothing was kept."""
    _read(path.job_id)
    raise UnsupportedOperation("input items are not told back: prompts are not kept, and images are not sent out")


@response_routes.post("/<response_id>/cancel", responses={200: ResponseBody})
def cancel_response(path: ResponsePath) -> Response:
    """Cancel a response that has not ended; to cancel it twice is no error."""
    if _read(path.job_id).status is not Status.CANCELED:
        try:
            jobs.cancel(caller(), path.job_id)
        except AlreadyFinished:
            if _read(path.job_id).status is not Status.CANCELED:
                raise
    return _json(ResponseBody.of(_read(path.job_id)))


@response_routes.delete("/<response_id>", responses={200: DeletedResponseBody})
def delete_response(path: ResponsePath) -> Response:
    """Delete a response's images and text for good, canceling it first if it runs."""
    _read(path.job_id)
    jobs.delete_job(caller(), path.job_id)
    return _json(DeletedResponseBody(id=path.response_id))


def _read(job_id: str) -> Reading:
    try:
        with transaction() as connection:
            return reading(connection, caller(), job_id)
    except (Gone, NotFound) as exc:
        # To OpenAI's clients, what was deleted is not there.
        raise NotFound(f"there is no response {job_id.replace('job_', 'resp_', 1)}") from exc


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
