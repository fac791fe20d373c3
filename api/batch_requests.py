"""The lines of a batch's file: is it a batch, and what does each line ask for?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from api.batch_schemas import BatchErrorBody, BatchLine
from api.chat_schemas import ChatRequest
from api.jsonl import FileLine, lines_of
from api.problems import malformed, storable
from api.prompt_jobs import AskedLines, chat_lines, response_lines
from api.response_schemas import ResponseRequest
from core import files
from core.batches import Batch
from core.errors import MalformedRequest, NotFound
from core.settings import settings
from core.states import Priority

#: Requests of one file, as OpenAI has it.
MOST_REQUESTS = 50_000
#: Errors that a batch that failed is shown with.
_MOST_ERRORS = 100
#: How much longer an image is as base64, and room for what stands around it.
_BASE64 = 1.4


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What was found in a file."""

    requests: int
    #: Empty when it is a batch.
    errors: list[dict[str, Any]]


def validate(batch: Batch) -> Validation:
    """Look through a batch's file.

    What is wrong with the body of a request is found when it is submitted, and fails that request alone; what is wrong
    with a line itself fails the batch, since nothing could be told of it under its `custom_id`.
    """
    seen: set[str] = set()
    errors: list[BatchErrorBody] = []
    requests = 0
    try:
        for line in file_lines(batch):
            requests += 1
            error = _error_of(line, batch, seen)
            if error is not None:
                errors.append(error)
            if requests > MOST_REQUESTS:
                errors.append(_error("too_many_requests", f"a batch has at most {MOST_REQUESTS:,} requests", line))
            if len(errors) >= _MOST_ERRORS or requests > MOST_REQUESTS:
                break
    except NotFound:
        errors.append(_error("file_not_found", "the input file was deleted", None))
    if not requests and not errors:
        errors.append(_error("empty_file", "the file holds no requests", None))
    return Validation(requests=requests, errors=[error.model_dump() for error in errors])


def file_lines(batch: Batch, *, from_byte: int = 0, from_line: int = 1) -> Iterator[FileLine]:
    """The lines of a batch's file from a place on.

    Raises:
        NotFound: The file was deleted.
    """
    pieces = files.content(batch.input_file_id, from_byte=from_byte)
    most_bytes = int(_BASE64 * settings().max_image_bytes)
    return lines_of(pieces, most_bytes=most_bytes, first_number=from_line, first_byte=from_byte)


def read_line(line: FileLine) -> BatchLine:
    """A line of a file that was found to be a batch."""
    assert line.data is not None  # or the file would be none
    return BatchLine.model_validate_json(line.data)


def lines_asked(line: BatchLine, batch_id: str) -> AskedLines:
    """What one request asks for; its images are not fetched yet.

    Raises:
        InkqueueError: What is wrong with it.
    """
    try:
        if line.url == "/v1/responses":
            asked = ResponseRequest.model_validate(line.body)
            return response_lines(_unwatched(asked), priority=Priority.BULK, batch_id=batch_id)
        chat = ChatRequest.model_validate(line.body)
        return chat_lines(_unwatched(chat), priority=Priority.BULK, batch_id=batch_id)
    except ValidationError as exc:
        raise malformed(exc) from exc


def _unwatched(request: Any) -> Any:
    if request.stream or getattr(request, "background", False):
        raise MalformedRequest("a request of a batch has neither stream nor background")
    return request


def _error_of(line: FileLine, batch: Batch, seen: set[str]) -> BatchErrorBody | None:
    if line.data is None:
        return _error("line_too_long", "the line is longer than an image may be", line)
    try:
        request = BatchLine.model_validate_json(line.data)
    except ValidationError as exc:
        wrong = malformed(exc)
        code = "invalid_json_line" if wrong.param is None else "invalid_request"
        return _error(code, wrong.message, line, wrong.param)
    if request.url != batch.endpoint:
        return _error("mismatched_url", f"the url must be that of the batch, {batch.endpoint}", line, "url")
    if request.custom_id in seen:
        return _error("duplicate_custom_id", f"the custom_id {request.custom_id} came before", line, "custom_id")
    seen.add(request.custom_id)
    return None


def _error(code: str, message: str, line: FileLine | None, param: str | None = None) -> BatchErrorBody:
    return BatchErrorBody(
        code=code,
        message=storable(message),
        param=None if param is None else storable(param),
        line=line.number if line else None,
    )
