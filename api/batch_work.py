"""What becomes of a batch, turn by turn: looked through, submitted slice by slice, settled, written down.

Each turn may be the last of its process: what it did is in Postgres, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from api.batch_requests import file_lines, job_of, read_line, validate
from api.batch_results import write_results
from api.jsonl import FileLine
from api.problems import described
from core import accounts, batch_requests, batches, jobs
from core.accounts import Caller
from core.batch_requests import BatchRequest, RequestOutcome
from core.batches import Batch, BatchStatus
from core.database import transaction
from core.errors import (
    AlreadyFinished,
    Gone,
    InkqueueError,
    InsufficientCredits,
    InvalidApiKey,
    KeyBudgetExceeded,
    NotFound,
    RateLimited,
    Unavailable,
)
from core.jobs import MAX_IMAGES, NewImage, NewJob

#: Requests that one turn submits: as many, or as many as come to so many bytes.
_SLICE_REQUESTS = 64
_SLICE_BYTES = 16 * 2**20
#: Requests of one batch that are submitted and not read: enough that no worker waits for more, few enough that other
#: bulk work of the account gets its turn.
_MOST_OPEN = 2048
#: Images of one slice that are fetched and judged at once.
_JUDGES = 8
#: What stops a slice, to be tried again at the next turn.
_NOT_NOW = (RateLimited, Unavailable)
#: What fails a request for want of money.
_NO_MONEY = (InsufficientCredits, KeyBudgetExceeded)

_log = structlog.get_logger(__name__)


def turn(batch: Batch) -> bool:
    """Take a batch one step further; whether there is more to do at once.

    Raises:
        Unavailable: Postgres or the storage does not answer.
    """
    if batch.status is BatchStatus.VALIDATING:
        _look_through(batch)
        return True
    if batch.status is BatchStatus.FINALIZING:
        write_results(batch, BatchStatus.COMPLETED)
        return True
    with transaction() as connection:
        due = batches.is_due(connection, batch)
        batch_requests.settle(connection, batch)
    if batch.status is BatchStatus.CANCELLING:
        return _give_up(batch, BatchStatus.CANCELLED)
    if due:
        return _give_up(batch, BatchStatus.EXPIRED)
    return _submit_more(batch)


def _look_through(batch: Batch) -> None:
    found = validate(batch)
    with transaction() as connection:
        if found.errors:
            batches.refuse(connection, batch, found.errors)
        else:
            batches.begin(connection, batch, requests_total=found.requests)
    _log.info("a batch was looked through", batch=batch.id, requests=found.requests, errors=len(found.errors))


def _give_up(batch: Batch, status: BatchStatus) -> bool:
    """End what has not been read, and write the rest; requests that a worker holds right now may still end as read."""
    with transaction() as connection:
        open_jobs = batch_requests.open_jobs(connection, batch)
    for job_id in open_jobs:
        with suppress(AlreadyFinished, NotFound, Gone):
            jobs.cancel(_anyone_of(batch), job_id)
    with transaction() as connection:
        batch_requests.settle(connection, batch)
    write_results(batch, status)
    return True


def _anyone_of(batch: Batch) -> Caller:
    # The key may be gone: its account's jobs are ended all the same.
    return Caller(account_id=batch.account_id, key_id=batch.key_id)


def _submit_more(batch: Batch) -> bool:
    with transaction() as connection:
        open_requests = batch_requests.count_open(connection, batch)
    if open_requests >= _MOST_OPEN:
        return False
    try:
        lines = list(_slice(batch))
        if not lines:
            return _finish_when_read(batch, open_requests)
        _submit(batch, lines)
    except _NOT_NOW as exc:
        _log.info("a batch waits", batch=batch.id, why=exc.message)
        return False
    except NotFound:
        _log.warning("a batch is cancelled: its file was deleted while it was read", batch=batch.id)
        return _give_up(batch, BatchStatus.CANCELLED)
    with transaction() as connection:
        batches.advance(connection, batch, next_byte=lines[-1].ends_at, next_line=lines[-1].number + 1)
    return True


def _finish_when_read(batch: Batch, open_requests: int) -> bool:
    if open_requests:
        return False
    with transaction() as connection:
        batches.start_writing(connection, batch)
    return True


def _slice(batch: Batch) -> Iterator[FileLine]:
    size = 0
    for count, line in enumerate(file_lines(batch, from_byte=batch.next_byte, from_line=batch.next_line), start=1):
        yield line
        size += len(line.data or b"")
        if count == _SLICE_REQUESTS or size >= _SLICE_BYTES:
            return


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A request and what it asks for, or why it cannot be read."""

    request: BatchRequest
    job: NewJob | None


def _submit(batch: Batch, lines: Sequence[FileLine]) -> None:
    """Submit the requests of a slice; those that a clerk before this one had submitted are left alone."""
    with transaction() as connection:
        recorded = batch_requests.recorded_lines(connection, batch, from_line=lines[0].number)
        new = [line for line in lines if line.number not in recorded]
        try:
            holder = accounts.caller_of_key(connection, batch.key_id)
        except InvalidApiKey as error:
            batch_requests.record(connection, batch, [_failed(_request(line), error) for line in new])
            return
    for judged in _judged_together(batch, holder, new):
        refused = [one.request for one in judged if one.job is None]
        with transaction() as connection:
            batch_requests.record(connection, batch, refused)
        for group in _groups(judged):
            _submit_together(batch, holder, group)


def _judged_together(batch: Batch, holder: Caller, lines: Sequence[FileLine]) -> Iterator[list[_Judged]]:
    """Requests with their images, as many at a time as may be in memory: a short line can name many large images."""
    judged: list[_Judged] = []
    with ThreadPoolExecutor(_JUDGES) as pool:
        for begin in range(0, len(lines), _JUDGES):
            judged += pool.map(lambda line: _judge(batch, holder, line), lines[begin : begin + _JUDGES])
            if sum(one.job.stored_bytes for one in judged if one.job) >= _SLICE_BYTES:
                yield judged
                judged = []
    yield judged


def _request(line: FileLine) -> BatchRequest:
    return BatchRequest(line=line.number, custom_id=read_line(line).custom_id)


def _judge(batch: Batch, holder: Caller, line: FileLine) -> _Judged:
    asked = read_line(line)
    request = BatchRequest(line=line.number, custom_id=asked.custom_id)
    try:
        return _Judged(request=request, job=job_of(asked, holder, batch.id))
    except Unavailable:
        raise
    except InkqueueError as error:
        return _Judged(request=_failed(request, error), job=None)


def _groups(judged: Sequence[_Judged]) -> Iterator[list[_Judged]]:
    """Requests that one job can read: they ask for the same, and are not too many."""
    groups: dict[object, list[_Judged]] = {}
    for one in judged:
        if one.job is not None:
            alike = (one.job.model, one.job.reading, tuple(sorted(one.job.metadata.items())))
            group = groups.setdefault(alike, [])
            if sum(len(other.job.images) for other in group if other.job) + len(one.job.images) > MAX_IMAGES:
                yield groups.pop(alike)
                group = groups.setdefault(alike, [])
            group.append(one)
    yield from groups.values()


def _submit_together(batch: Batch, holder: Caller, group: Sequence[_Judged]) -> None:
    """Submit requests as one job; where it cannot be paid for, by halves, so that as many as possible are read."""
    placed: list[BatchRequest] = []
    images: list[NewImage] = []
    for one in group:
        assert one.job is not None  # they were sorted out
        placed.append(replace(one.request, first_image=len(images), images=len(one.job.images)))
        images += one.job.images
    first = group[0].job
    assert first is not None
    try:
        jobs.submit(holder, replace(first, images=images), also=partial(batch_requests.record_submitted, batch, placed))
    except _NO_MONEY as error:
        if len(group) > 1:
            _submit_together(batch, holder, group[: len(group) // 2])
            _submit_together(batch, holder, group[len(group) // 2 :])
        else:
            with transaction() as connection:
                batch_requests.record(connection, batch, [_failed(group[0].request, error)])


def _failed(request: BatchRequest, error: InkqueueError) -> BatchRequest:
    status, body = described(error, as_openai=True)
    return replace(request, outcome=RequestOutcome.FAILED, error_status=status, error=body)
