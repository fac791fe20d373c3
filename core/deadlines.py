"""What has not been started by its job's deadline expires, free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, exists, func, select, update

from core import job_events
from core.job_events import EventKind, Happened
from core.job_tables import ImageRow, JobRow
from core.jobs import end_unfinished, release
from core.states import Status

#: Jobs that one round ends.
_MOST_A_ROUND = 100


def expire_due(connection: Connection) -> list[str]:
    """End the waiting images of jobs whose deadline has come; return these jobs.

    A job of which a worker still reads an image goes on with it, and ends as that image does.
    """
    waiting = exists().where(ImageRow.job_id == JobRow.id, ImageRow.status == Status.QUEUED)
    due: Sequence[Any] = connection.execute(
        select(JobRow.id, JobRow.account_id)
        .where(JobRow.deadline_at <= func.now(), JobRow.finished_at.is_(None), waiting)
        .order_by(JobRow.id)
        .limit(_MOST_A_ROUND)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    # Each moves its account's totals: accounts in the order of locks.
    for job in sorted(due, key=lambda job: job.account_id):
        if _is_read(connection, job.id):
            _expire_waiting(connection, job)
        else:
            end_unfinished(connection, job.account_id, job.id, status=Status.EXPIRED)
    return [job.id for job in due]


def _is_read(connection: Connection, job_id: str) -> bool:
    running = select(ImageRow.id).where(ImageRow.job_id == job_id, ImageRow.status == Status.RUNNING).limit(1)
    return connection.execute(running).first() is not None


def _expire_waiting(connection: Connection, job: Any) -> None:
    ended: Sequence[Any] = connection.execute(
        update(ImageRow)
        .where(ImageRow.job_id == job.id, ImageRow.status == Status.QUEUED)
        .values(status=Status.EXPIRED, attempt=ImageRow.attempt + 1, finished_at=func.now())
        .returning(ImageRow.id, ImageRow.held_micro)
    ).all()
    version = connection.execute(
        update(JobRow)
        .where(JobRow.id == job.id)
        .values(
            version=JobRow.version + len(ended),
            images_done=JobRow.images_done + len(ended),
            held_micro=JobRow.held_micro - sum(row.held_micro for row in ended),
        )
        .returning(JobRow.version)
    ).scalar_one()
    first_version = version - len(ended) + 1
    job_events.record(
        connection,
        [
            Happened(job_id=job.id, version=first_version + place, kind=EventKind.IMAGE, image_id=row.id)
            for place, row in enumerate(ended)
        ],
    )
    release(connection, job.account_id, job.id, ended)
