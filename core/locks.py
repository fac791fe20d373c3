"""The order of locks, the same everywhere, so that transactions never wait for each other in a circle.

A job first, then its images by id, then the account, the last before the commit. Who takes images without their job
skips those that are held (`SKIP LOCKED`) instead of waiting.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from core.tables import JobRow


def lock_jobs(connection: Connection, job_ids: Collection[str]) -> dict[str, str]:
    """Keep these jobs as they are until the transaction ends; return each one's account id."""
    # Not a full lock: nothing refers to another key of a job, so that foreign keys need not wait.
    rows = connection.execute(
        select(JobRow.id, JobRow.account_id)
        .where(JobRow.id.in_(job_ids))
        .order_by(JobRow.id)
        .with_for_update(key_share=True)
    )
    return {row.id: row.account_id for row in rows}
