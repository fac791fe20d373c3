"""What a batch read, as the two files that its caller downloads: answers, and errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from tempfile import TemporaryFile
from typing import IO, Any

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
from core.files import OUTPUT_PURPOSE
from core.readings import Reading, part_of, reading

#: What happened to requests that were not read when their batch ended.
_UNREAD = {
    BatchStatus.EXPIRED: ("batch_expired", "the batch's window ended before this request was read"),
    BatchStatus.CANCELLED: ("batch_cancelled", "the batch was cancelled before this request was read"),
}


def write_results(batch: Batch, status: BatchStatus) -> None:
    """Write the files of a batch whose requests have ended, and end it as `status`.

    Raises:
        Unavailable: Postgres or the storage does not answer.
    """
    # By way of the disk, since how large they become is not known before; and stored when both are whole.
    with TemporaryFile() as answers, TemporaryFile() as errors:
        completed = _write(answers, _answers(batch))
        failed = _write(errors, chain(_errors(batch, status), _never_submitted(batch, status)))
        output_file = files.put(answers) if completed else None
        error_file = files.put(errors) if failed else None
    new = [file for file in (output_file, error_file) if file is not None]
    with files.kept_if_added(new), transaction() as connection:
        has_ended = batches.end(
            connection,
            batch,
            status,
            output_file_id=output_file.id if output_file else None,
            error_file_id=error_file.id if error_file else None,
            requests_completed=completed,
            requests_failed=failed,
        )
        # With the end of the batch or not at all: a clerk that dies here leaves no file that the next one writes again.
        for file in new if has_ended else []:
            files.add(
                connection,
                batch.account_id,
                file,
                purpose=OUTPUT_PURPOSE,
                filename=f"{batch.id}_{'output' if file is output_file else 'errors'}.jsonl",
                expires_after_s=batch.output_expires_after_s,
            )
    if not has_ended:
        # Its caller gave it up while they were written: the next turn writes them anew.
        files.delete_bytes([file.id for file in new])


def _write(file: IO[bytes], results: Iterable[dict[str, Any]]) -> int:
    """Write results, a line each, and go back to the first; how many there were."""
    lines = 0
    for result in results:
        lines += 1
        file.write(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    file.seek(0)
    return lines


def _answers(batch: Batch) -> Iterator[dict[str, Any]]:
    for request, found in _readings(batch, RequestOutcome.COMPLETED):
        if isinstance(found, Reading):
            body = ResponseBody.of(found) if batch.endpoint == "/v1/responses" else ChatCompletionBody.of(found)
            yield _told(batch, request, 200, dumped(body))


def _errors(batch: Batch, status: BatchStatus) -> Iterator[dict[str, Any]]:
    for request, found in _readings(batch, RequestOutcome.COMPLETED):
        if isinstance(found, InkqueueError):
            yield _refused(batch, request, found)
    for request, found in _readings(batch, RequestOutcome.FAILED):
        if request.job_id is None:
            yield _told(batch, request, request.error_status or 500, {"error": request.error})
        elif isinstance(found, InkqueueError):
            yield _refused(batch, request, found)
        elif status in _UNREAD and all(image.error is None for image in found.images):
            yield _unread(batch, request.line, request.custom_id, status) | _read_in_part(found)
        else:
            error = why_unread(found)
            assert error is not None  # or the request would not have failed
            yield _refused(batch, request, error) | _read_in_part(found)


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


def _readings(batch: Batch, outcome: RequestOutcome) -> Iterator[tuple[BatchRequest, Reading | InkqueueError]]:
    """Each request with what was read for it, or why that is gone."""
    holder = _holder(batch)
    job_id: str | None = None
    whole: Reading | InkqueueError = NotFound("it was not submitted")
    for page in batch_requests.pages(batch, [outcome]):
        for request in page:
            if request.job_id is not None and request.job_id != job_id:
                job_id, whole = request.job_id, _reading(holder, request.job_id)
            if isinstance(whole, Reading) and request.job_id is not None:
                yield request, part_of(whole, first_image=request.first_image, images=request.images)
            else:
                yield request, whole


def _holder(batch: Batch) -> Caller:
    return Caller(account_id=batch.account_id, key_id=batch.key_id)


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
