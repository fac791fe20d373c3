"""What happened to jobs, in order: rows written in the job's own transactions, each under a version of its own.

A job's version rises by one with each event, so that a reader who knows the last version it saw misses nothing and is
told nothing twice. The job is locked whenever its version rises: an event is never seen before an earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, delete, select, text

from core.image_views import line_of
from core.job_tables import ImageRow, JobEventRow, LineRow
from core.states import Status
from core.transcript import Line

#: Events that are read at once.
_MOST_A_READ = 200
#: The version of a job that was only just submitted: it has no row, since every job begins so.
_FIRST_VERSION = 1
_RECORD = text(
    """
    INSERT INTO job_events (job_id, version, kind, status, image_id, line_position)
    SELECT * FROM unnest(
        CAST(:jobs AS text[]), CAST(:versions AS integer[]), CAST(:kinds AS text[]),
        CAST(:statuses AS text[]), CAST(:images AS text[]), CAST(:positions AS integer[]))
    """
)
_COLUMNS: tuple[Any, ...] = (
    JobEventRow.version,
    JobEventRow.kind,
    JobEventRow.status.label("job_status"),
    JobEventRow.image_id,
    JobEventRow.line_position,
    ImageRow.position.label("image_index"),
    ImageRow.key,
    ImageRow.status.label("image_status"),
    ImageRow.error_code,
    ImageRow.error_message,
    *(column for column in LineRow.__table__.columns if column.name != "image_id"),
)


class EventKind(StrEnum):
    """What an event is about."""

    #: The job came into a state that is not its last.
    STATUS = "status"
    #: A line was read.
    LINE = "line"
    #: An image ended without a line: it failed, or nothing is on it.
    IMAGE = "image"
    #: The job came into its last state.
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Happened:
    """An event that is to be written; what it refers to is read from the rows of image and line."""

    job_id: str
    version: int
    kind: EventKind
    status: Status | None = None
    image_id: str | None = None
    line_position: int | None = None

    @classmethod
    def to_job(cls, job_id: str, version: int, *, status: Status) -> Happened:
        """The job came into this state."""
        kind = EventKind.DONE if status.terminal else EventKind.STATUS
        return cls(job_id=job_id, version=version, kind=kind, status=status)


@dataclass(frozen=True, kw_only=True)
class EventView:
    """An event as it is told: of the job, of an image, or of a line of an image."""

    version: int
    kind: EventKind
    status: Status | None
    image_id: str | None = None
    image_index: int | None = None
    image_key: str | None = None
    line: Line | None = None
    error_code: str | None = None
    error_message: str | None = None


def record(connection: Connection, events: Sequence[Happened]) -> None:
    """Write events; the caller's transaction has locked their jobs and raised their versions."""
    if events:
        connection.execute(
            _RECORD,
            {
                "jobs": [event.job_id for event in events],
                "versions": [event.version for event in events],
                "kinds": [event.kind.value for event in events],
                "statuses": [event.status.value if event.status else None for event in events],
                "images": [event.image_id for event in events],
                "positions": [event.line_position for event in events],
            },
        )


def forget(connection: Connection, job_id: str) -> None:
    """Delete the events of a job that is deleted."""
    connection.execute(delete(JobEventRow).where(JobEventRow.job_id == job_id))


def events_after(connection: Connection, job_id: str, version: int) -> list[EventView]:
    """The next events of a job behind this version, in order; none when nothing has happened since."""
    first = [EventView(version=_FIRST_VERSION, kind=EventKind.STATUS, status=Status.QUEUED)]
    rows = connection.execute(
        select(*_COLUMNS)
        .outerjoin(ImageRow, ImageRow.id == JobEventRow.image_id)
        .outerjoin(
            LineRow, and_(LineRow.image_id == JobEventRow.image_id, LineRow.position == JobEventRow.line_position)
        )
        .where(JobEventRow.job_id == job_id, JobEventRow.version > version)
        .order_by(JobEventRow.version)
        .limit(_MOST_A_READ)
    ).all()
    events = [
        EventView(
            version=row.version,
            kind=EventKind(row.kind),
            status=Status(row.job_status or row.image_status),
            image_id=row.image_id,
            image_index=row.image_index,
            image_key=row.key,
            line=line_of(row) if row.line_position is not None else None,
            error_code=row.error_code,
            error_message=row.error_message,
        )
        for row in rows
    ]
    return first + events if version < _FIRST_VERSION else events
