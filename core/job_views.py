"""One job as its caller sees it, with its images and lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Executable, Row, bindparam, select

from core.accounts import Caller
from core.errors import Gone, NotFound
from core.image_views import ErrorView, ImageView, first_errors, image_views
from core.job_tables import ImageRow, JobRow, LineRow
from core.queue_position import queue_position
from core.states import Mode, Priority, Status
from core.transcript import whole_text

#: Images that are embedded in a job; the others are read page by page.
EMBEDDED_IMAGES = 100

# Statements that run with every job are made once: making one costs about as much as sending it.
_JOB = select(JobRow.__table__).where(JobRow.id == bindparam("job"), JobRow.account_id == bindparam("account"))
_VERSION = select(JobRow.version, JobRow.status, JobRow.deleted_at).where(
    JobRow.id == bindparam("job"), JobRow.account_id == bindparam("account")
)


@dataclass(frozen=True, kw_only=True)
class JobView:
    """One job; `images` are those from its first on, at most `EMBEDDED_IMAGES`."""

    id: str
    status: Status
    version: int
    model: str
    mode: Mode
    priority: Priority
    beams: int
    max_lines: int
    metadata: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    images_total: int
    images_done: int
    lines_done: int
    lines_charged: int
    held_micro: int
    charged_micro: int
    queue_position: int | None
    text: str | None
    images: tuple[ImageView, ...]
    error: ErrorView | None
    retry_of: str | None
    deadline_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class JobReading:
    """What a transcript says of its job."""

    id: str
    model: str
    #: None while it goes on.
    ended_at: datetime | None


def job_version(connection: Connection, caller: Caller, job_id: str) -> tuple[int, Status]:
    """The version and state of a job, cheaply, for those who wait for a change.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    row = _existing(connection, _VERSION, caller, job_id)
    return row.version, Status(row.status)


def job_view(connection: Connection, caller: Caller, job_id: str) -> JobView:
    """A job with its first images and its whole text so far.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    row = job_row(connection, caller, job_id)
    images = image_views(connection, job_id, most=EMBEDDED_IMAGES)
    return view_of(
        row,
        images=images,
        text=_text(connection, row, images),
        error=first_errors(connection, [row]).get(row.id),
        queue_position=queue_position(connection, row),
    )


def image_page(connection: Connection, caller: Caller, job_id: str, *, after: int, most: int) -> tuple[ImageView, ...]:
    """Images of a job in order, those behind index `after`, with their lines.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    job_row(connection, caller, job_id)
    return image_views(connection, job_id, after=after, most=most)


def job_row(connection: Connection, caller: Caller, job_id: str) -> Row[Any]:
    """All that the table of jobs says of one of the caller's.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    return _existing(connection, _JOB, caller, job_id)


def job_reading(connection: Connection, caller: Caller, job_id: str) -> JobReading:
    """What reads a job of the caller's, and until when.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    row = job_row(connection, caller, job_id)
    return JobReading(id=row.id, model=row.model, ended_at=row.finished_at)


def _existing(connection: Connection, query: Executable, caller: Caller, job_id: str) -> Row[Any]:
    row: Row[Any] | None = connection.execute(query, {"job": job_id, "account": caller.account_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    if row.deleted_at is not None:
        raise Gone(f"job {job_id} was deleted")
    return row


def view_of(
    row: Row[Any],
    *,
    images: tuple[ImageView, ...],
    text: str | None,
    error: ErrorView | None,
    queue_position: int | None,
) -> JobView:
    """The view that a row of the table of jobs gives, with what other tables say."""
    return JobView(
        id=row.id,
        status=Status(row.status),
        version=row.version,
        model=row.model,
        mode=Mode(row.mode),
        priority=Priority(row.priority),
        beams=row.beams,
        max_lines=row.max_lines,
        metadata=row.caller_metadata,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        images_total=row.images_total,
        images_done=row.images_done,
        lines_done=row.lines_done,
        lines_charged=row.lines_charged,
        held_micro=row.held_micro,
        charged_micro=row.charged_micro,
        queue_position=queue_position,
        text=text,
        images=images,
        error=error,
        retry_of=row.retry_of,
        deadline_at=row.deadline_at,
    )


def _text(connection: Connection, row: Row[Any], embedded: Sequence[ImageView]) -> str | None:
    if row.images_succeeded == 0:
        return None
    if row.images_total <= len(embedded):
        return whole_text([image.text for image in embedded])
    texts = connection.execute(
        select(LineRow.text)
        .join(ImageRow, ImageRow.id == LineRow.image_id)
        .where(ImageRow.job_id == row.id)
        .order_by(ImageRow.position, LineRow.position)
    ).scalars()
    return whole_text(list(texts))
