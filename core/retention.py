"""How long ended jobs are kept: by the service's rule, or by an account's own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, func, literal_column, select, true, update

from core import batches
from core.account_tables import AccountRow
from core.batch_tables import BatchRow
from core.job_tables import JobRow
from core.jobs import delete_content
from core.settings import settings

#: Jobs that one round deletes.
_MOST_A_ROUND = 100
_DAY: Any = literal_column("interval '1 day'")


def set_retention(connection: Connection, account_id: str, days: float | None) -> None:
    """Keep an account's ended jobs for so many days; 0 keeps them for ever, None follows the service's setting."""
    connection.execute(update(AccountRow).where(AccountRow.id == account_id).values(retention_days=days))


def delete_kept_too_long(connection: Connection) -> list[str]:
    """Delete images, text and metadata of jobs that ended too long ago; return these jobs.

    A batch is charged as it is read, and written when all of it was: until then its jobs are kept.

    Their files are found by those who purge deleted jobs; the ledger stays.
    """
    days = func.coalesce(AccountRow.retention_days, settings().retention_days)
    # In any order: an account that always has enough to delete must not keep the others waiting.
    accounts = select(AccountRow.id, days.label("days")).where(days > 0).order_by(func.random()).subquery()
    # Account by account along the index, so that a round does not look at all jobs that are kept.
    due = (
        select(JobRow.id)
        .where(JobRow.account_id == accounts.c.id, JobRow.deleted_at.is_(None))
        .where(JobRow.finished_at < func.now() - accounts.c.days * _DAY, ~_is_still_wanted())
        .order_by(JobRow.finished_at)
        .limit(_MOST_A_ROUND)
        .with_for_update(of=JobRow, skip_locked=True, key_share=True)
        .correlate(accounts)
        .lateral()
    )
    found = select(due.c.id).select_from(accounts).join(due, true()).limit(_MOST_A_ROUND)
    deleted = list(connection.execute(found).scalars())
    for job_id in deleted:
        delete_content(connection, job_id)
    return deleted


def _is_still_wanted() -> ColumnElement[bool]:
    return exists().where(BatchRow.id == JobRow.batch_id, batches.is_open())
