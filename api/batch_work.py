"""What becomes of a batch, turn by turn: looked through, submitted slice by slice, settled, written down.

Each turn may be the last of its process: what it did is in Postgres, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import structlog

from api.batch_requests import file_lines, validate
from api.batch_results import write_results
from api.batch_submission import SLICE_BYTES, submit_requests
from api.jsonl import FileLine
from core import batch_requests, batches, jobs
from core.accounts import Caller
from core.batches import Batch, BatchStatus
from core.database import transaction
from core.errors import AlreadyFinished, Gone, NotFound

#: Requests that one turn submits: as many, or as many as come to `SLICE_BYTES`.
_SLICE_REQUESTS = 64
#: Requests of one account's batches that are submitted and not read: enough that no worker waits for more, few enough
#: that other bulk work gets its turn.
_MOST_OPEN = 2048

_log = structlog.get_logger(__name__)


def turn(batch: Batch, *, last_try: bool) -> bool:
    """Take a batch one step further; whether there is more to do at once.

    Args:
        batch: As it was found just now.
        last_try: Whether a request that meets a defect of ours is to fail, rather than this turn.

    Raises:
        RateLimited: There is no room for its next request now.
        InsufficientCredits: Running jobs hold what its next request costs.
        KeyBudgetExceeded: As above, of the key's own cap.
        Unavailable: Postgres or the storage does not answer.
    """
    if batch.status is BatchStatus.VALIDATING:
        _look_through(batch)
        return True
    if batch.status is BatchStatus.FINALIZING:
        write_results(batch, BatchStatus.COMPLETED, last_try=last_try)
        return True
    with transaction() as connection:
        due = batches.is_due(connection, batch)
        batch_requests.settle(connection, batch)
    if batch.status is BatchStatus.CANCELLING:
        return _give_up(batch, BatchStatus.CANCELLED, last_try=last_try)
    if due:
        return _give_up(batch, BatchStatus.EXPIRED, last_try=last_try)
    return _submit_more(batch, last_try=last_try)


def _look_through(batch: Batch) -> None:
    found = validate(batch)
    with transaction() as connection:
        if found.errors:
            batches.refuse(connection, batch, found.errors)
        else:
            batches.begin(connection, batch, requests_total=found.requests)
    _log.info("a batch was looked through", batch=batch.id, requests=found.requests, errors=len(found.errors))


def _give_up(batch: Batch, status: BatchStatus, *, last_try: bool) -> bool:
    """End what has not been read, and write the rest; requests that a worker holds right now may still end as read."""
    with transaction() as connection:
        open_jobs = batch_requests.open_jobs(connection, batch)
    for job_id in open_jobs:
        with suppress(AlreadyFinished, NotFound, Gone):
            jobs.cancel(_anyone_of(batch), job_id)
    with transaction() as connection:
        batch_requests.settle(connection, batch)
    write_results(batch, status, last_try=last_try)
    return True


def _anyone_of(batch: Batch) -> Caller:
    # The key may be gone: its account's jobs are ended all the same.
    return Caller(account_id=batch.account_id, key_id=batch.key_id)


def _submit_more(batch: Batch, *, last_try: bool) -> bool:
    with transaction() as connection:
        if batches.all_ended(connection, batch):
            batches.start_writing(connection, batch)
            return True
        if batch_requests.count_open(connection, batch.account_id) >= _MOST_OPEN:
            return False
    try:
        lines = list(_slice(batch))
        if not lines:
            return False
        last = submit_requests(batch, lines, last_try=last_try)
    except NotFound:
        _log.warning("a batch is cancelled: its file was deleted while it was read", batch=batch.id)
        return _give_up(batch, BatchStatus.CANCELLED, last_try=last_try)
    with transaction() as connection:
        batches.advance(connection, batch, next_byte=last.ends_at, next_line=last.number + 1)
    return True


def _slice(batch: Batch) -> Iterator[FileLine]:
    size = 0
    for count, line in enumerate(file_lines(batch, from_byte=batch.next_byte, from_line=batch.next_line), start=1):
        yield line
        size += len(line.data or b"")
        if count == _SLICE_REQUESTS or size >= SLICE_BYTES:
            return
