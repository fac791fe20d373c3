"""Pages of a caller's jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, select

from core.accounts import Caller
from core.image_views import first_errors
from core.job_tables import JobRow
from core.job_views import JobView, view_of


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
    return tuple(view_of(row, images=(), text=None, error=errors.get(row.id), queue_position=None) for row in rows)
