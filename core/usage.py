"""What an account was charged for: sums by day, model or key, and single events for a billing system.

All of it comes from the ledger's captures, so that it agrees with the balance to the micro-credit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, String, cast, func, select
from sqlalchemy import Date as SqlDate

from core.credit_tables import LedgerRow
from core.credits import EntryKind

#: Captures from before the ledger knew models and keys.
_UNKNOWN = "unknown"


class GroupBy(StrEnum):
    """What usage is summed by."""

    DAY = "day"
    MODEL = "model"
    KEY = "key"


@dataclass(frozen=True, kw_only=True)
class UsageRow:
    """The charges of one group."""

    #: A day (UTC) as 2026-11-22, a model, or a key's id.
    group: str
    images: int
    lines: int
    charged_micro: int


@dataclass(frozen=True, kw_only=True)
class UsageEvent:
    """One image that was charged."""

    id: int
    at: datetime
    job_id: str
    image_id: str
    key_id: str | None
    model: str | None
    lines: int | None
    charged_micro: int


_GROUPS: dict[GroupBy, ColumnElement[str]] = {
    GroupBy.DAY: cast(cast(func.timezone("UTC", LedgerRow.created_at), SqlDate), String),
    GroupBy.MODEL: func.coalesce(LedgerRow.model, _UNKNOWN),
    GroupBy.KEY: func.coalesce(LedgerRow.key_id, _UNKNOWN),
}


def usage(
    connection: Connection, account_id: str, *, since: datetime | None, until: datetime | None, group_by: GroupBy
) -> list[UsageRow]:
    """An account's charges from `since` on and before `until`, summed, in the order of the groups' names."""
    group = _GROUPS[group_by].label("group")
    query = select(
        group,
        func.count().label("images"),
        cast(func.coalesce(func.sum(LedgerRow.lines), 0), LedgerRow.id.type).label("lines"),
        cast(func.sum(LedgerRow.amount_micro), LedgerRow.id.type).label("charged_micro"),
    ).where(*_captures(account_id, since, until))
    rows = connection.execute(query.group_by(group).order_by(group)).mappings()
    return [UsageRow(**row) for row in rows]


def usage_events(
    connection: Connection,
    account_id: str,
    *,
    since: datetime | None,
    until: datetime | None,
    after: int,
    most: int,
) -> list[UsageEvent]:
    """Single charges, oldest first, those behind the ledger id `after`.

    A ledger id is given out before its transaction commits, so that a lower one may appear after a higher one: who
    follows along asks for what is some seconds old (`until`).
    """
    query = (
        select(
            LedgerRow.id,
            LedgerRow.created_at.label("at"),
            LedgerRow.job_id,
            LedgerRow.image_id,
            LedgerRow.key_id,
            LedgerRow.model,
            LedgerRow.lines,
            LedgerRow.amount_micro.label("charged_micro"),
        )
        .where(*_captures(account_id, since, until), LedgerRow.id > after)
        .order_by(LedgerRow.id)
        .limit(most)
    )
    return [UsageEvent(**row) for row in connection.execute(query).mappings()]


def _captures(account_id: str, since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    conditions = [LedgerRow.account_id == account_id, LedgerRow.kind == EntryKind.CAPTURE]
    if since is not None:
        conditions.append(LedgerRow.created_at >= since)
    if until is not None:
        conditions.append(LedgerRow.created_at < until)
    return conditions
