"""How a job is ended before its images are, and deleted: by its caller, at a deadline, when it is kept no longer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from core import credits, job_events, job_files, notices, webhook_deliveries, webhooks
from core.accounts import Caller
from core.database import transaction
from core.errors import AlreadyFinished, Gone, NotFound, Unavailable
from core.job_tables import ImageRow, JobRow
from core.notices import Changes
from core.states import Status


def cancel(caller: Caller, job_id: str) -> None:
    """End a job's unfinished images, free; what was read stays charged and readable.

    Raises:
        NotFound: The account has no such job.
        AlreadyFinished: It ended before.
    """
    with transaction() as connection:
        status = locked_status(connection, caller, job_id)
        if status.terminal:
            raise AlreadyFinished(f"the job has already ended: {status}")
        image_ids = end_unfinished(connection, caller.account_id, job_id, status=Status.CANCELED)
    notices.notify(notices.IMAGES_CANCELED, image_ids)
    notices.tell(Changes(words=[job_id]))


def delete_job(caller: Caller, job_id: str) -> None:
    """Delete a job's images and text at once, canceling what still runs; its ledger entries stay.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted before.
    """
    canceled: list[str] = []
    with transaction() as connection:
        if not locked_status(connection, caller, job_id).terminal:
            canceled = end_unfinished(connection, caller.account_id, job_id, status=Status.CANCELED)
        delete_content(connection, job_id)
    notices.notify(notices.IMAGES_CANCELED, canceled)
    notices.tell(Changes(words=[job_id]))
    # Where the storage is away just now, the cleaner removes the files later.
    with suppress(Unavailable):
        job_files.purge([job_id])


def locked_status(connection: Connection, caller: Caller, job_id: str) -> Status:
    """The state of one of the caller's jobs, which stays as it is until the transaction ends.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    row = connection.execute(
        select(JobRow.status, JobRow.deleted_at)
        .where(JobRow.id == job_id, JobRow.account_id == caller.account_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    if row.deleted_at is not None:
        raise Gone(f"job {job_id} was deleted")
    return Status(row.status)


def delete_content(connection: Connection, job_id: str) -> None:
    """Delete what a locked, ended job holds of its caller's: images, text, metadata; the files go after the commit."""
    connection.execute(delete(ImageRow).where(ImageRow.job_id == job_id))
    job_events.forget(connection, job_id)
    webhook_deliveries.forget_job(connection, job_id)
    connection.execute(
        update(JobRow)
        .where(JobRow.id == job_id)
        .values(deleted_at=func.now(), caller_metadata={}, version=JobRow.version + 1)
    )


def end_unfinished(connection: Connection, account_id: str, job_id: str, *, status: Status) -> list[str]:
    """End a locked job, and those of its images that have not ended, free; return their ids."""
    ended: Sequence[Any] = connection.execute(
        update(ImageRow)
        .where(ImageRow.job_id == job_id, ImageRow.status.in_([Status.QUEUED, Status.RUNNING]))
        .values(status=status, attempt=ImageRow.attempt + 1, finished_at=func.now())
        .returning(ImageRow.id, ImageRow.held_micro)
    ).all()
    released_micro = sum(row.held_micro for row in ended)
    version = connection.execute(
        update(JobRow)
        .where(JobRow.id == job_id)
        .values(
            status=status,
            version=JobRow.version + 1,
            finished_at=func.now(),
            images_done=JobRow.images_done + len(ended),
            held_micro=JobRow.held_micro - released_micro,
        )
        .returning(JobRow.version)
    ).scalar_one()
    job_events.record(connection, [job_events.Happened.to_job(job_id, version, status=status)])
    webhooks.announce(connection, [job_id])
    release(connection, account_id, job_id, ended)
    return [row.id for row in ended]


def release(connection: Connection, account_id: str, job_id: str, ended: Sequence[Row[Any]]) -> None:
    """Set free what was held for images that ended unread, given by their `id` and `held_micro`."""
    job = connection.execute(select(JobRow.key_id, JobRow.model).where(JobRow.id == job_id)).one()
    credits.post(
        connection,
        [
            credits.Entry(
                account_id=account_id,
                kind=credits.EntryKind.RELEASE,
                amount_micro=row.held_micro,
                job_id=job_id,
                image_id=row.id,
                key_id=job.key_id,
                model=job.model,
            )
            for row in ended
        ],
    )
