"""How many images wait before a job's first one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, literal_column, or_, select

from core.job_tables import ImageRow
from core.states import Status

#: A position is counted up to here; behind it, it is unknown.
MOST_COUNTED = 10_000

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
    .limit(MOST_COUNTED + 1)
    .subquery()
)


def queue_position(connection: Connection, row: Row[Any]) -> int | None:
    """Count what waits before a job, given its row; None while it does not wait, and far behind."""
    if Status(row.status) is not Status.QUEUED:
        return None
    count = connection.execute(_AHEAD, {"job": row.id, "model": row.model, "priority": row.priority}).scalar_one()
    return count if count <= MOST_COUNTED else None
