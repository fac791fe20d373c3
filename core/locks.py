"""The order of locks, the same everywhere, so that transactions never wait for each other in a circle.

A job first, then its images, then the account, the last before the commit; of several, each by id, accounts by their
bytes, as Python compares them. Who takes images without their job skips those that are held (`SKIP LOCKED`) instead of
waiting. A submission locks its accounts before it writes jobs and images: nobody else can hold those yet.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from core.database import any_of
from core.job_tables import JobRow


@dataclass(frozen=True, kw_only=True)
class LockedJob:
    """What stays the same of a job from its submission on: who pays, how much a line, since when."""

    account_id: str
    key_id: str
    model: str
    line_price_micro: int
    created_at: datetime


# Not a full lock: nothing refers to another key of a job, so that foreign keys need not wait.
_LOCK_JOBS = (
    select(JobRow.id, JobRow.account_id, JobRow.key_id, JobRow.model, JobRow.line_price_micro, JobRow.created_at)
    .where(JobRow.id == any_of("jobs"))
    .order_by(JobRow.id)
    .with_for_update(key_share=True)
)


def lock_jobs(connection: Connection, job_ids: Collection[str]) -> dict[str, LockedJob]:
    """Keep these jobs as they are until the transaction ends."""
    rows = connection.execute(_LOCK_JOBS, {"jobs": list(job_ids)})
    return {
        row.id: LockedJob(
            account_id=row.account_id,
            key_id=row.key_id,
            model=row.model,
            line_price_micro=row.line_price_micro,
            created_at=row.created_at,
        )
        for row in rows
    }
