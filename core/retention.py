"""How long ended jobs and batches are kept: by the service's rule, or by an account's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    SQLColumnExpression,
    Subquery,
    delete,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import aliased

from core import batches, webhook_deliveries
from core.account_tables import AccountRow
from core.batch_tables import BatchRequestRow, BatchRow
from core.job_tables import JobRow
from core.jobs import delete_content
from core.settings import settings

#: Jobs that one round deletes, or batches that it looks at.
_MOST_A_ROUND = 100
#: Requests of batches that one round deletes.
_REQUESTS_A_ROUND = 5000
_DAY: Any = literal_column("interval '1 day'")


def set_retention(connection: Connection, account_id: str, days: float | None) -> None:
    """Keep what an account's jobs and batches hold so many days after their end.

    0 keeps it for ever, None follows the service's setting.
    """
    connection.execute(update(AccountRow).where(AccountRow.id == account_id).values(retention_days=days))


def delete_kept_too_long(connection: Connection) -> list[str]:
    """Delete images, text and metadata of jobs that ended too long ago; return these jobs.

    A batch is charged as it is read, and written when all of it was: until then its jobs are kept.

    Their files are found by those who purge deleted jobs; the ledger stays.
    """
    accounts = _accounts_with_a_rule()
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


def forget_batches_kept_too_long(connection: Connection) -> bool:
    """Delete what the database has of the requests of batches that ended too long ago, and of what their callers wrote.

    Their entries stay, with state and counts, and so do their files: those are no part of them.

    Returns:
        Whether to look again at once: there may be more.
    """
    accounts = _accounts_with_a_rule()
    # NULL while it has not: then it is before no time.
    ended_at = func.coalesce(BatchRow.completed_at, BatchRow.failed_at, BatchRow.expired_at, BatchRow.cancelled_at)
    due = (
        select(BatchRow.id, BatchRow.account_id)
        .where(BatchRow.account_id == accounts.c.id, _holds_anything())
        .where(ended_at < func.now() - accounts.c.days * _DAY)
        .limit(_MOST_A_ROUND)
        .with_for_update(of=BatchRow, skip_locked=True, key_share=True)
        .correlate(accounts)
        .lateral()
    )
    found = connection.execute(
        select(due.c.id, due.c.account_id).select_from(accounts).join(due, true()).limit(_MOST_A_ROUND)
    ).all()
    if not found:
        return False
    batch_ids = [row.id for row in found]
    connection.execute(update(BatchRow).where(BatchRow.id.in_(batch_ids)).values(caller_metadata={}, errors=None))
    emptied = _delete_requests(connection, batch_ids)
    webhook_deliveries.forget_batches(connection, {row.account_id for row in found if row.id in emptied}, emptied)
    return True


def _holds_anything() -> ColumnElement[bool]:
    first = _lines_of(BatchRow.id).limit(1).correlate(BatchRow).scalar_subquery()
    return or_(BatchRow.caller_metadata != {}, BatchRow.errors.is_not(None), first.is_not(None))


def _delete_requests(connection: Connection, batch_ids: Sequence[str]) -> list[str]:
    """Delete requests of these batches, some at a time; give the batches of which none are left."""
    emptied: list[str] = []
    left = _REQUESTS_A_ROUND
    for batch_id in batch_ids:
        some = BatchRequestRow.line.in_(_lines_of(literal(batch_id)).limit(left))
        left -= connection.execute(delete(BatchRequestRow).where(BatchRequestRow.batch_id == batch_id, some)).rowcount
        if not left:
            break
        emptied.append(batch_id)
    return emptied


def _lines_of(batch_id: SQLColumnExpression[str]) -> Select[Any]:
    # In their order, so that Postgres takes the index: it expects some in every part of the table, and would read the
    # whole of it for a batch that has none.
    request = aliased(BatchRequestRow)
    return select(request.line).where(request.batch_id == batch_id).order_by(request.line)


def _accounts_with_a_rule() -> Subquery:
    days = func.coalesce(AccountRow.retention_days, settings().retention_days)
    # In any order: an account that always has enough to delete must not keep the others waiting.
    return select(AccountRow.id, days.label("days")).where(days > 0).order_by(func.random()).subquery()


def _is_still_wanted() -> ColumnElement[bool]:
    return exists().where(BatchRow.id == JobRow.batch_id, batches.is_open())
