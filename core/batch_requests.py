"""The requests of a batch: which job reads each, or why none does, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, case, exists, func, insert, select, update

from core import batches
from core.batch_tables import BatchRequestRow, BatchRow
from core.batches import Batch
from core.database import transaction
from core.job_tables import ImageRow, JobRow
from core.states import Status

#: Requests that are held in memory while files are written: about those that were submitted together.
_PAGE = 64


class RequestOutcome(StrEnum):
    """How a request ended."""

    OPEN = "open"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """One line of a batch's file."""

    line: int
    custom_id: str
    #: The job that reads it, among others, and which of its images are this request's; None: it was not submitted.
    job_id: str | None = None
    first_image: int = 0
    images: int = 0
    #: Why it was not submitted: the status and the body that a request by itself would have been answered with.
    error_status: int | None = None
    error: Mapping[str, Any] | None = None
    outcome: RequestOutcome = RequestOutcome.OPEN


def record(connection: Connection, batch: Batch, requests: Sequence[BatchRequest]) -> None:
    """Write requests that were submitted in this transaction, or that failed.

    Raises:
        Unavailable: The batch is in progress no longer, or is being changed at this moment: a clerk that stood still
            while another took its place must not go on with what that one has ended.
    """
    if not requests:
        return
    batches.keep_in_progress(connection, batch)
    connection.execute(
        insert(BatchRequestRow),
        [
            {
                "batch_id": batch.id,
                "line": request.line,
                "custom_id": request.custom_id,
                "job_id": request.job_id,
                "first_image": request.first_image,
                "images": request.images,
                "error_status": request.error_status,
                "error": request.error,
                "outcome": request.outcome,
            }
            for request in requests
        ],
    )
    failed = sum(request.outcome is RequestOutcome.FAILED for request in requests)
    if failed:
        batches.count(connection, batch, completed=0, failed=failed)


def record_submitted(batch: Batch, requests: Sequence[BatchRequest], connection: Connection, job_id: str) -> None:
    """Write requests together with the job that reads them."""
    record(connection, batch, [replace(request, job_id=job_id) for request in requests])


def recorded_lines(connection: Connection, batch: Batch, *, from_line: int) -> set[int]:
    """Lines from this one on that are written already: a clerk was cut short behind them."""
    lines = select(BatchRequestRow.line).where(BatchRequestRow.batch_id == batch.id, BatchRequestRow.line >= from_line)
    return set(connection.execute(lines).scalars())


def settle(connection: Connection, batch: Batch) -> None:
    """Write down which requests have ended: those whose jobs have."""
    ended_jobs = select(JobRow.id).where(
        JobRow.id == BatchRequestRow.job_id, JobRow.status.not_in([Status.QUEUED, Status.RUNNING])
    )
    unread = (
        exists()
        .where(
            ImageRow.job_id == BatchRequestRow.job_id,
            ImageRow.position >= BatchRequestRow.first_image,
            ImageRow.position < BatchRequestRow.first_image + BatchRequestRow.images,
            ImageRow.status != Status.SUCCEEDED,
        )
        .correlate(BatchRequestRow)
    )
    # In one statement: between two of them a job may end, and the second would take what it left unread for read.
    outcomes = connection.execute(
        update(BatchRequestRow)
        .where(
            BatchRequestRow.batch_id == batch.id,
            BatchRequestRow.outcome == RequestOutcome.OPEN,
            ended_jobs.exists(),
        )
        .values(outcome=case((unread, RequestOutcome.FAILED), else_=RequestOutcome.COMPLETED))
        .returning(BatchRequestRow.outcome)
    ).scalars()
    counted = Counter(outcomes)
    completed, failed = counted[RequestOutcome.COMPLETED], counted[RequestOutcome.FAILED]
    if failed or completed:
        batches.count(connection, batch, completed=completed, failed=failed)


def open_jobs(connection: Connection, batch: Batch) -> list[str]:
    """Jobs of requests that have not ended."""
    jobs = (
        select(BatchRequestRow.job_id)
        .where(BatchRequestRow.batch_id == batch.id, BatchRequestRow.outcome == RequestOutcome.OPEN)
        .distinct()
    )
    return [job_id for job_id in connection.execute(jobs).scalars() if job_id is not None]


def count_open(connection: Connection, account_id: str) -> int:
    """How many requests of an account's batches have been submitted and have not ended."""
    open_ones = (
        select(func.count())
        .select_from(BatchRequestRow)
        .join(BatchRow, BatchRow.id == BatchRequestRow.batch_id)
        .where(BatchRow.account_id == account_id, BatchRequestRow.outcome == RequestOutcome.OPEN)
    )
    return connection.execute(open_ones).scalar_one()


def pages(batch: Batch, outcomes: Collection[RequestOutcome]) -> Iterator[list[BatchRequest]]:
    """The requests that ended so, in order, some at a time."""
    after = 0
    while True:
        with transaction() as connection:
            rows = connection.execute(
                select(BatchRequestRow.__table__)
                .where(
                    BatchRequestRow.batch_id == batch.id,
                    BatchRequestRow.line > after,
                    BatchRequestRow.outcome.in_(outcomes),
                )
                .order_by(BatchRequestRow.line)
                .limit(_PAGE)
            ).all()
        if not rows:
            return
        after = rows[-1].line
        yield [
            BatchRequest(
                line=row.line,
                custom_id=row.custom_id,
                job_id=row.job_id,
                first_image=row.first_image,
                images=row.images,
                error_status=row.error_status,
                error=row.error,
                outcome=RequestOutcome(row.outcome),
            )
            for row in rows
        ]
