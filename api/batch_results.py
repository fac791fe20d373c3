"""What a batch read, as the two files that its caller downloads: answers, and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import structlog

from api.batch_requests import file_lines, read_line
from api.chat_schemas import ChatCompletionBody
from api.openai_schemas import dumped
from api.problems import described
from api.prompt_readings import why_unread
from api.response_schemas import ResponseBody
from core import batch_requests, batches, files
from core.accounts import Caller
from core.batch_requests import BatchRequest, RequestOutcome
from core.batches import Batch, BatchStatus
from core.database import transaction
from core.errors import Gone, InkqueueError, NotFound
from core.files import OUTPUT_PURPOSE, GrowingFile
from core.readings import Reading, part_of, reading

_log = structlog.get_logger(__name__)

#: What happened to requests that were not read when their batch ended.
_UNREAD = {
    BatchStatus.EXPIRED: ("batch_expired", "the batch's window ended before this request was read"),
    BatchStatus.CANCELLED: ("batch_cancelled", "the batch was cancelled before this request was read"),
}


def write_results(batch: Batch, status: BatchStatus, *, last_try: bool) -> None:
    """Write the files of a batch whose requests have ended, and end it as `status`.

    Args:
        batch: Whose.
        status: As what it ends.
        last_try: Whether a request whose result meets a defect of ours is to fail, rather than this writing.

    Raises:
        Unavailable: Postgres or the storage does not answer.
    """
    # Into the storage as they are made: how large they become is not known before, and no other disk need be so large.
    with files.growing() as answer_file, files.growing() as error_file:
        answers, errors = _Lines(answer_file), _Lines(error_file)
        _write_read(batch, status, answers, errors, last_try=last_try)
        for result in _never_submitted(batch, status):
            errors.write(result)
    output, failures = answer_file.stored, error_file.stored
    new = [file for file in (output, failures) if file is not None]
    with files.kept_if_added(new), transaction() as connection:
        has_ended = batches.end(
            connection,
            batch,
            status,
            output_file_id=output.id if output else None,
            error_file_id=failures.id if failures else None,
            requests_completed=answers.count,
            requests_failed=errors.count,
        )
        # With the end of the batch or not at all: a clerk that dies here leaves no file that the next one writes again.
        for file in new if has_ended else []:
            files.add(
                connection,
                batch.account_id,
                file,
                purpose=OUTPUT_PURPOSE,
                filename=f"{batch.id}_{'output' if file is output else 'errors'}.jsonl",
                expires_after_s=batch.output_expires_after_s,
            )
    if not has_ended:
        # Its caller gave it up while they were written: the next turn writes them anew.
        files.delete_bytes([file.id for file in new])


class _Lines:
    """A file of results, a line each."""

    def __init__(self, file: GrowingFile) -> None:
        self._file = file
        self.count = 0

    def write(self, result: dict[str, Any]) -> None:
        self.count += 1
        self._file.write(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _write_read(batch: Batch, status: BatchStatus, answers: _Lines, errors: _Lines, *, last_try: bool) -> None:
    """Write the requests that were submitted, or refused, in the order of their lines."""
    for request, found in _readings(batch):
        is_answer, result = _result(batch, status, request, found, last_try=last_try)
        (answers if is_answer else errors).write(result)


def _result(
    batch: Batch,
    status: BatchStatus,
    request: BatchRequest,
    found: Reading | InkqueueError | None,
    *,
    last_try: bool,
) -> tuple[bool, dict[str, Any]]:
    """Whether a request has an answer, and its line."""
    try:
        if isinstance(found, Reading) and request.outcome is RequestOutcome.COMPLETED:
            body = ResponseBody.of(found) if batch.endpoint == "/v1/responses" else ChatCompletionBody.of(found)
            return True, _told(batch, request, 200, dumped(body))
        return False, _failure(batch, status, request, found)
    except Exception:
        if not last_try:
            raise
        # All that was read is charged: the defect of one result must not keep the others from their caller.
        _log.exception("the result of a request of a batch cannot be written", line=request.line)
        return False, _refused(batch, request, InkqueueError())


def _failure(
    batch: Batch, status: BatchStatus, request: BatchRequest, found: Reading | InkqueueError | None
) -> dict[str, Any]:
    if found is None:
        return _told(batch, request, request.error_status or 500, {"error": request.error})
    if isinstance(found, InkqueueError):
        return _refused(batch, request, found)
    if status in _UNREAD and all(image.error is None for image in found.images):
        return _unread(batch, request.line, request.custom_id, status) | _read_in_part(found)
    error = why_unread(found)
    assert error is not None  # or the request would not have failed
    return _refused(batch, request, error) | _read_in_part(found)


def _read_in_part(found: Reading) -> dict[str, Any]:
    """What was read of a request that failed: it is charged, and stands nowhere else under its `custom_id`."""
    if not found.lines_charged:
        return {}
    return {"ocr": {"job_id": found.job_id, "rows": [image.text for image in found.images]}}


def _refused(batch: Batch, request: BatchRequest, error: InkqueueError) -> dict[str, Any]:
    status, body = described(error, as_openai=True)
    return _told(batch, request, status, {"error": body})


def _never_submitted(batch: Batch, status: BatchStatus) -> Iterator[dict[str, Any]]:
    if status not in _UNREAD or batch.in_progress_at is None:
        return
    try:
        with transaction() as connection:
            recorded = batch_requests.recorded_lines(connection, batch, from_line=batch.next_line)
        for line in file_lines(batch, from_byte=batch.next_byte, from_line=batch.next_line):
            if line.number not in recorded:
                yield _unread(batch, line.number, read_line(line).custom_id, status)
    except NotFound:
        # The file was deleted: nobody knows any more what was in it.
        return


def _readings(batch: Batch) -> Iterator[tuple[BatchRequest, Reading | InkqueueError | None]]:
    """Each request that has ended with what was read for it, or why that is gone; None where it was not submitted."""
    holder = Caller(account_id=batch.account_id, key_id=batch.key_id)
    for page in batch_requests.pages(batch, [RequestOutcome.COMPLETED, RequestOutcome.FAILED]):
        found: dict[int, Reading | InkqueueError] = {}
        # Requests that ask for different things are read by different jobs, in turns: each is looked at once a page.
        for job_id in {request.job_id for request in page if request.job_id is not None}:
            whole = _reading(holder, job_id)
            for request in page:
                if request.job_id == job_id:
                    found[request.line] = _part(whole, request)
        yield from ((request, found.get(request.line)) for request in page)


def _part(whole: Reading | InkqueueError, request: BatchRequest) -> Reading | InkqueueError:
    if isinstance(whole, InkqueueError):
        return whole
    return part_of(whole, first_image=request.first_image, images=request.images)


def _reading(holder: Caller, job_id: str) -> Reading | InkqueueError:
    try:
        with transaction() as connection:
            return reading(connection, holder, job_id)
    except (Gone, NotFound) as error:
        return error


def _told(batch: Batch, request: BatchRequest, status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": _request_id(batch, request.line),
        "custom_id": request.custom_id,
        "response": {"status_code": status, "request_id": request.job_id or batch.id, "body": body},
        "error": None,
    }


def _unread(batch: Batch, line: int, custom_id: str, status: BatchStatus) -> dict[str, Any]:
    code, message = _UNREAD[status]
    return {
        "id": _request_id(batch, line),
        "custom_id": custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }


def _request_id(batch: Batch, line: int) -> str:
    return f"batch_req_{batch.id.removeprefix('batch_')}_{line}"
