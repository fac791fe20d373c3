"""Jobs as their callers see them: one job with its images and lines, or a page of jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Row,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import distinct_on

from core.accounts import Caller
from core.errors import Gone, NotFound
from core.states import Mode, Priority, Status
from core.tables import ImageRow, JobRow, LineRow
from core.transcript import Alternative, BoundingBox, Flag, Line, Token, Word, joined_text, whole_text

#: Images that are embedded in a job; the others are read page by page.
EMBEDDED_IMAGES = 100
#: A queue position is counted up to here; behind it, it is unknown.
_COUNTED_POSITIONS = 10_000

# Statements that run with every job are made once: making one costs about as much as sending it.
_JOB = select(JobRow.__table__).where(JobRow.id == bindparam("job"), JobRow.account_id == bindparam("account"))
_VERSION = select(JobRow.version, JobRow.status, JobRow.deleted_at).where(
    JobRow.id == bindparam("job"), JobRow.account_id == bindparam("account")
)
_IMAGES = (
    select(ImageRow.__table__)
    .where(ImageRow.job_id == bindparam("job"), ImageRow.position > bindparam("after"))
    .order_by(ImageRow.position)
    .limit(bindparam("most", type_=Integer))
)
_LINES = (
    select(LineRow.__table__)
    .where(LineRow.image_id.in_(bindparam("images", expanding=True)))
    .order_by(LineRow.image_id, LineRow.position)
)
# Spelled out: a parameter keeps Postgres from knowing, before it plans, that the index of waiting images will do.
_QUEUED: Any = literal_column(f"'{Status.QUEUED.value}'")
_OWN_FIRST = (
    select(func.min(ImageRow.sequence))
    .where(ImageRow.job_id == bindparam("job"), ImageRow.status == _QUEUED)
    .scalar_subquery()
)
_AHEAD = select(func.count()).select_from(
    select(ImageRow.id)
    .where(
        ImageRow.model == bindparam("model"),
        ImageRow.status == _QUEUED,
        or_(
            ImageRow.priority < bindparam("priority"),
            and_(ImageRow.priority == bindparam("priority"), ImageRow.sequence < _OWN_FIRST),
        ),
    )
    .limit(_COUNTED_POSITIONS + 1)
    .subquery()
)


@dataclass(frozen=True, kw_only=True)
class ErrorView:
    """Why something failed."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """One image of a job and what was read in it."""

    id: str
    key: str | None
    index: int
    status: Status
    width: int
    height: int
    error: ErrorView | None
    lines: tuple[Line, ...]

    @property
    def text(self) -> str | None:
        """The lines' texts in reading order; None while it has not been read."""
        return joined_text(self.lines) if self.status is Status.SUCCEEDED else None


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
    images = _images(connection, job_id, after=-1, most=EMBEDDED_IMAGES)
    return _view(
        row,
        images=images,
        text=_text(connection, row, images),
        error=first_errors(connection, [row]).get(row.id),
        queue_position=_queue_position(connection, row),
    )


def image_page(connection: Connection, caller: Caller, job_id: str, *, after: int, most: int) -> tuple[ImageView, ...]:
    """Images of a job in order, those behind index `after`, with their lines.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    job_row(connection, caller, job_id)
    return _images(connection, job_id, after=after, most=most)


def all_images(connection: Connection, job_id: str) -> tuple[ImageView, ...]:
    """All images of a job in order, with their lines."""
    return _images(connection, job_id, after=-1, most=None)


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which of a caller's jobs are wanted; what is left out narrows nothing."""

    statuses: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    #: Pairs that a job must carry.
    metadata: Mapping[str, str] = field(default_factory=dict)

    def conditions(self) -> list[ColumnElement[bool]]:
        """It as SQL."""
        conditions: list[ColumnElement[bool]] = []
        if self.statuses:
            conditions.append(JobRow.status.in_(self.statuses))
        if self.created_after is not None:
            conditions.append(JobRow.created_at >= self.created_after)
        if self.created_before is not None:
            conditions.append(JobRow.created_at < self.created_before)
        if self.metadata:
            conditions.append(JobRow.caller_metadata.contains(dict(self.metadata)))
        return conditions


def list_jobs(
    connection: Connection, caller: Caller, wanted: JobFilter | None = None, *, before: str | None, most: int
) -> tuple[JobView, ...]:
    """The caller's jobs, newest first, without their images; `before` is the id of the last one of the page before."""
    query = select(JobRow.__table__).where(
        JobRow.account_id == caller.account_id,
        JobRow.deleted_at.is_(None),
        JobRow.batch_id.is_(None),
        *(wanted or JobFilter()).conditions(),
    )
    if before is not None:
        query = query.where(JobRow.id < before)
    rows = connection.execute(query.order_by(JobRow.id.desc()).limit(most)).all()
    errors = first_errors(connection, rows)
    return tuple(_view(row, images=(), text=None, error=errors.get(row.id), queue_position=None) for row in rows)


def _images(connection: Connection, job_id: str, *, after: int, most: int | None) -> tuple[ImageView, ...]:
    rows = connection.execute(_IMAGES, {"job": job_id, "after": after, "most": most}).all()
    lines = _lines(connection, [row.id for row in rows if Status(row.status) is Status.SUCCEEDED])
    return tuple(
        ImageView(
            id=row.id,
            key=row.key,
            index=row.position,
            status=Status(row.status),
            width=row.width,
            height=row.height,
            error=ErrorView(code=row.error_code, message=row.error_message) if row.error_code else None,
            lines=tuple(lines[row.id]),
        )
        for row in rows
    )


def job_row(connection: Connection, caller: Caller, job_id: str) -> Row[Any]:
    """All that the table of jobs says of one of the caller's.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    return _existing(connection, _JOB, caller, job_id)


def _existing(connection: Connection, query: Executable, caller: Caller, job_id: str) -> Row[Any]:
    row: Row[Any] | None = connection.execute(query, {"job": job_id, "account": caller.account_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    if row.deleted_at is not None:
        raise Gone(f"job {job_id} was deleted")
    return row


def _view(
    row: Row[Any],
    *,
    images: tuple[ImageView, ...],
    text: str | None,
    error: ErrorView | None,
    queue_position: int | None,
) -> JobView:
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


def _lines(connection: Connection, image_ids: Sequence[str]) -> dict[str, list[Line]]:
    lines: dict[str, list[Line]] = defaultdict(list)
    if not image_ids:
        return lines
    rows = connection.execute(_LINES, {"images": image_ids})
    for row in rows:
        lines[row.image_id].append(line_of(row))
    return lines


def line_of(row: Row[Any]) -> Line:
    """The line that a row of the table of lines holds."""
    return Line(
        index=row.position,
        text=row.text,
        confidence=row.confidence,
        bbox=BoundingBox(**dict(zip(("xmin", "ymin", "xmax", "ymax"), row.bbox, strict=True))),
        flags=tuple(Flag(flag) for flag in row.flags),
        words=tuple(Word(**word) for word in row.words),
        token_count=row.token_count,
        pieces=None if row.pieces is None else tuple(_token(piece) for piece in row.pieces),
    )


def _token(piece: Mapping[str, Any]) -> Token:
    return Token(
        text=piece["text"],
        logprob=piece["logprob"],
        alternatives=tuple(Alternative(**alternative) for alternative in piece["alternatives"]),
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


def first_errors(connection: Connection, jobs: Sequence[Row[Any]]) -> dict[str, ErrorView]:
    """Why each failed job failed: the error of its first image."""
    failed = [row.id for row in jobs if Status(row.status) is Status.FAILED]
    if not failed:
        return {}
    first = connection.execute(
        select(ImageRow.job_id, ImageRow.error_code, ImageRow.error_message)
        .where(ImageRow.job_id.in_(failed), ImageRow.error_code.is_not(None))
        .ext(distinct_on(ImageRow.job_id))
        .order_by(ImageRow.job_id, ImageRow.position)
    )
    return {row.job_id: ErrorView(code=row.error_code, message=row.error_message) for row in first}


def _queue_position(connection: Connection, row: Row[Any]) -> int | None:
    if Status(row.status) is not Status.QUEUED:
        return None
    count = connection.execute(_AHEAD, {"job": row.id, "model": row.model, "priority": row.priority}).scalar_one()
    return count if count <= _COUNTED_POSITIONS else None
