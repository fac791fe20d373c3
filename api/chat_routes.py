"""The path of chat completions."""

from __future__ import annotations

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from api.auth import authenticate, caller
from api.chat_schemas import ChatCompletionBody, ChatRequest
from api.chat_stream import chat_stream
from api.client_socket import presence_of
from api.event_responses import event_response
from api.idempotency import once_of
from api.json_bodies import read_json
from api.openai_schemas import priority_of
from api.problems import ERROR_RESPONSES, speak_as_openai
from api.prompt_jobs import chat_lines
from api.prompt_readings import CLIENT_CLOSED_REQUEST, ClientGone, read_whole, submitted
from core.database import transaction
from core.readings import reading

chat_routes = APIBlueprint(
    "chat",
    __name__,
    url_prefix="/v1/chat",
    abp_tags=[Tag(name="OpenAI")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
chat_routes.before_request(speak_as_openai)
chat_routes.before_request(authenticate)


@chat_routes.post("/completions", responses={200: ChatCompletionBody})
def create_chat_completion() -> Response:
    """Read the images of a conversation, one text line each, in order; the answer is their text, a row an image.

    It is a job like any other, at the priority `interactive`. With `stream` the text comes piece by piece while it is
    read (server-sent events). A client that goes away cancels it, unless it sent an `Idempotency-Key`: then it may come
    back for the answer.
    """
    once = once_of(request)
    asked = read_json(request, ChatRequest)
    is_there = presence_of(request.environ)
    prompt = submitted(
        caller(), once, lambda: chat_lines(asked, priority=priority_of(asked.service_tier)).job(caller().account_id)
    )
    if asked.stream:
        with transaction() as connection:
            begun = reading(connection, caller(), prompt.job_id)
        return event_response(chat_stream(prompt, asked, begun, is_there))
    try:
        whole = read_whole(prompt, is_there)
    except ClientGone:
        return Response(status=CLIENT_CLOSED_REQUEST)
    body = ChatCompletionBody.of(whole, tier=asked.service_tier)
    return Response(body.model_dump_json(), mimetype="application/json")
