"""The path of Mistral's OCR clients, which LiteLLM speaks too."""

from __future__ import annotations

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from api.auth import authenticate, caller
from api.client_socket import presence_of
from api.idempotency import once_of
from api.json_bodies import read_json
from api.ocr_schemas import OcrRequest, OcrResponseBody
from api.problems import ERROR_RESPONSES, speak_as_openai
from api.prompt_jobs import ocr_job
from api.prompt_readings import CLIENT_CLOSED_REQUEST, ClientGone, read_whole, submitted

ocr_routes = APIBlueprint(
    "ocr",
    __name__,
    url_prefix="/v1/ocr",
    abp_tags=[Tag(name="OCR")],
    abp_security=[{"api_key": []}],
    abp_responses=ERROR_RESPONSES,
)
ocr_routes.before_request(speak_as_openai)
ocr_routes.before_request(authenticate)


@ocr_routes.post("", responses={200: OcrResponseBody})
def read_document() -> Response:
    """Read an image as Mistral's OCR reads a document: one page, its text as `markdown`."""
    once = once_of(request)
    asked = read_json(request, OcrRequest)
    prompt = submitted(caller(), once, lambda: ocr_job(asked, caller()))
    try:
        whole = read_whole(prompt, presence_of(request.environ))
    except ClientGone:
        return Response(status=CLIENT_CLOSED_REQUEST)
    return Response(OcrResponseBody.of(whole).model_dump_json(), mimetype="application/json")
