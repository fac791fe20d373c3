"""Batches: what their callers do to them, and the states that they go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from core import credits, files, webhooks
from core.accounts import Caller
from core.batch_tables import BatchRow
from core.errors import AlreadyFinished, MalformedRequest, NotFound, TooManyBatches, Unavailable
from core.ids import new_id
from core.origin import Origin
from core.settings import settings

#: What a file that is a batch's input was uploaded for.
INPUT_PURPOSE = "batch"
#: OpenAI's only window.
WINDOW = timedelta(hours=24)


class BatchStatus(StrEnum):
    """Where a batch is; OpenAI's words."""

    #: Its file is being looked through.
    VALIDATING = "validating"
    #: Its requests are read, when there is time.
    IN_PROGRESS = "in_progress"
    #: All have ended; what was read is being written into files.
    FINALIZING = "finalizing"
    #: Its caller gives it up; what was read until now is written.
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    #: Its file was no batch.
    FAILED = "failed"
    #: The window ended first.
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether it never changes again."""
        return self in (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """What a caller asks for."""

    endpoint: str
    input_file_id: str
    metadata: Mapping[str, str]
    #: None: the files that it writes are kept.
    output_expires_after_s: int | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that is known of a batch."""

    id: str
    account_id: str
    key_id: str
    endpoint: str
    input_file_id: str
    status: BatchStatus
    metadata: dict[str, str]
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    expired_at: datetime | None
    cancelling_at: datetime | None
    cancelled_at: datetime | None
    output_expires_after_s: int | None
    requests_total: int
    requests_completed: int
    requests_failed: int
    #: Where the requests begin that have not been submitted: a byte of the file, and the number of its line.
    next_byte: int
    next_line: int
    output_file_id: str | None
    error_file_id: str | None
    #: Why its file is no batch: code, message, param and line of each error.
    errors: list[dict[str, Any]] | None
    origin: Origin


def create(connection: Connection, caller: Caller, new: NewBatch) -> Batch:
    """Make a batch out of an uploaded file.

    Raises:
        NotFound: The account has no such file.
        MalformedRequest: It was uploaded for something else.
        TooManyBatches: The account has as many open ones as it may.
    """
    file = files.find(connection, caller.account_id, new.input_file_id)
    if file.purpose != INPUT_PURPOSE:
        raise MalformedRequest(f"the file was uploaded for {file.purpose}, not for a batch", param="input_file_id")
    _check_open(connection, caller.account_id)
    row = connection.execute(
        insert(BatchRow)
        .values(
            id=new_id("batch"),
            account_id=caller.account_id,
            key_id=caller.key_id,
            endpoint=new.endpoint,
            input_file_id=new.input_file_id,
            status=BatchStatus.VALIDATING,
            caller_metadata=dict(new.metadata),
            expires_at=func.now() + WINDOW,
            output_expires_after_s=new.output_expires_after_s,
            origin=Origin.here().to_store(),
        )
        .returning(BatchRow.__table__)
    ).one()
    return _view(row)


def _check_open(connection: Connection, account_id: str) -> None:
    limit = settings().max_open_batches
    if not limit:
        return
    # Of two that come at once, one must see the other.
    credits.credit(connection, account_id, lock=True)
    open_ones = select(BatchRow.id).where(BatchRow.account_id == account_id, is_open()).limit(limit)
    if len(connection.execute(open_ones).all()) >= limit:
        raise TooManyBatches(f"the account may have {limit} open batches; wait for one to end, or cancel one")


def find(connection: Connection, account_id: str, batch_id: str) -> Batch:
    """One of an account's batches.

    Raises:
        NotFound: It has no such batch.
    """
    row = connection.execute(select(BatchRow.__table__).where(*_owned(account_id, batch_id))).one_or_none()
    if row is None:
        raise NotFound(f"there is no batch {batch_id}")
    return _view(row)


def list_batches(connection: Connection, caller: Caller, *, after: str | None, most: int) -> list[Batch]:
    """The caller's batches, newest first; `after` is the id of the last one of the page before."""
    query = select(BatchRow.__table__).where(BatchRow.account_id == caller.account_id)
    if after is not None:
        query = query.where(BatchRow.id < after)
    return [_view(row) for row in connection.execute(query.order_by(BatchRow.id.desc()).limit(most))]


def cancel(connection: Connection, caller: Caller, batch_id: str) -> Batch:
    """Give a batch up: requests that have not been read end, free; to do it twice is no error.

    Raises:
        NotFound: The account has no such batch.
        AlreadyFinished: It has ended, or all of it was read.
    """
    row = connection.execute(
        update(BatchRow)
        .where(
            *_owned(caller.account_id, batch_id),
            BatchRow.status.in_([BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS]),
        )
        .values(status=BatchStatus.CANCELLING, cancelling_at=func.now())
        .returning(BatchRow.__table__)
    ).one_or_none()
    if row is not None:
        return _view(row)
    batch = find(connection, caller.account_id, batch_id)
    if batch.status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
        raise AlreadyFinished(f"the batch is {batch.status} already")
    return batch


def open_batches(connection: Connection) -> list[Batch]:
    """All batches that have not ended, of all accounts, oldest first."""
    return [_view(row) for row in connection.execute(select(BatchRow.__table__).where(is_open()).order_by(BatchRow.id))]


def is_due(connection: Connection, batch: Batch) -> bool:
    """Whether its window has ended."""
    return bool(connection.execute(select(func.now() >= batch.expires_at)).scalar_one())


def all_ended(connection: Connection, batch: Batch) -> bool:
    """Whether each of its requests was read or has failed."""
    ended = BatchRow.requests_completed + BatchRow.requests_failed >= BatchRow.requests_total
    return connection.execute(select(ended).where(BatchRow.id == batch.id)).scalar_one()


def begin(connection: Connection, batch: Batch, *, requests_total: int) -> None:
    """Its file is a batch: its requests may be submitted."""
    _move(connection, batch, BatchStatus.IN_PROGRESS, requests_total=requests_total, in_progress_at=func.now())


def refuse(connection: Connection, batch: Batch, errors: Sequence[Mapping[str, Any]]) -> None:
    """Its file is no batch."""
    _move(connection, batch, BatchStatus.FAILED, errors=list(errors), failed_at=func.now())


def start_writing(connection: Connection, batch: Batch) -> None:
    """All its requests have ended."""
    _move(connection, batch, BatchStatus.FINALIZING, finalizing_at=func.now())


def end(
    connection: Connection,
    batch: Batch,
    status: BatchStatus,
    *,
    output_file_id: str | None,
    error_file_id: str | None,
    requests_completed: int,
    requests_failed: int,
) -> bool:
    """What it read is written; False where its state was another one meanwhile, so that this changes nothing."""
    ended_at = {
        BatchStatus.COMPLETED: "completed_at",
        BatchStatus.EXPIRED: "expired_at",
        BatchStatus.CANCELLED: "cancelled_at",
    }[status]
    return _move(
        connection,
        batch,
        status,
        output_file_id=output_file_id,
        error_file_id=error_file_id,
        requests_completed=requests_completed,
        requests_failed=requests_failed,
        **{ended_at: func.now()},
    )


def advance(connection: Connection, batch: Batch, *, next_byte: int, next_line: int) -> None:
    """Its requests before this place are submitted, or have failed."""
    connection.execute(update(BatchRow).where(BatchRow.id == batch.id).values(next_byte=next_byte, next_line=next_line))


def count(connection: Connection, batch: Batch, *, completed: int, failed: int) -> None:
    """So many more of its requests have ended."""
    connection.execute(
        update(BatchRow)
        .where(BatchRow.id == batch.id)
        .values(
            requests_completed=BatchRow.requests_completed + completed,
            requests_failed=BatchRow.requests_failed + failed,
        )
    )


def keep_in_progress(connection: Connection, batch: Batch) -> None:
    """See to it that a batch stays in progress until the transaction ends.

    Raises:
        Unavailable: It is not, or is being changed at this moment.
    """
    # Tried rather than awaited: here the account may be locked already, which elsewhere comes after the batch.
    in_progress = (
        select(BatchRow.id)
        .where(BatchRow.id == batch.id, BatchRow.status == BatchStatus.IN_PROGRESS)
        .with_for_update(read=True, skip_locked=True)
    )
    if connection.execute(in_progress).one_or_none() is None:
        raise Unavailable("the batch is no longer in progress, or is being changed just now")


def is_open() -> ColumnElement[bool]:
    """That a batch has not ended, as SQL."""
    return BatchRow.status.in_([status for status in BatchStatus if not status.terminal])


def _move(connection: Connection, batch: Batch, status: BatchStatus, **values: Any) -> bool:
    # Only from the state that was seen: a cancel may have come meanwhile.
    moved = connection.execute(
        update(BatchRow).where(BatchRow.id == batch.id, BatchRow.status == batch.status).values(status=status, **values)
    ).rowcount
    if moved and status.terminal:
        webhooks.announce_batch(connection, batch.id)
    return bool(moved)


def _owned(account_id: str, batch_id: str) -> tuple[ColumnElement[bool], ...]:
    return BatchRow.id == batch_id, BatchRow.account_id == account_id


def _view(row: Row[Any]) -> Batch:
    values = dict(row._mapping)
    origin = Origin.read(values.pop("origin"))
    return Batch(
        **values | {"status": BatchStatus(row.status), "metadata": values.pop("caller_metadata"), "origin": origin}
    )
