"""The ledger as its account sees it: entries, newest first, each with the grants that bore it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, select

from core.credit_tables import LedgerRow, SpendRow
from core.credits import EntryKind


@dataclass(frozen=True, kw_only=True)
class ShareView:
    """What one grant bore of an entry."""

    grant_id: str
    amount_micro: int


@dataclass(frozen=True, kw_only=True)
class EntryView:
    """One movement of credits; the sign of each kind is stated in `core/credits.py`."""

    id: int
    kind: EntryKind
    amount_micro: int
    job_id: str | None
    image_id: str | None
    key_id: str | None
    reason: str | None
    created_at: datetime
    #: Empty for entries that do not lower the balance.
    paid_by: tuple[ShareView, ...]


def list_entries(
    connection: Connection, account_id: str, *, before: int | None, most: int, job_id: str | None = None
) -> list[EntryView]:
    """An account's entries, newest first; `before` is the id of the last one of the page before."""
    query = _entries(account_id)
    if before is not None:
        query = query.where(LedgerRow.id < before)
    if job_id is not None:
        query = query.where(LedgerRow.job_id == job_id)
    rows = connection.execute(query.order_by(LedgerRow.id.desc()).limit(most)).mappings().all()
    shares = _shares(connection, [row["id"] for row in rows])
    return [EntryView(**dict(row) | {"kind": EntryKind(row["kind"])}, paid_by=tuple(shares[row["id"]])) for row in rows]


def _entries(account_id: str) -> Select[int, str, int, str | None, str | None, str | None, str | None, datetime]:
    return select(
        LedgerRow.id,
        LedgerRow.kind,
        LedgerRow.amount_micro,
        LedgerRow.job_id,
        LedgerRow.image_id,
        LedgerRow.key_id,
        LedgerRow.reason,
        LedgerRow.created_at,
    ).where(LedgerRow.account_id == account_id)


def _shares(connection: Connection, ledger_ids: Sequence[int]) -> dict[int, list[ShareView]]:
    shares: dict[int, list[ShareView]] = defaultdict(list)
    rows = connection.execute(
        select(SpendRow.ledger_id, SpendRow.grant_id, SpendRow.amount_micro)
        .where(SpendRow.ledger_id.in_(ledger_ids))
        .order_by(SpendRow.ledger_id, SpendRow.grant_id)
    )
    for row in rows:
        shares[row.ledger_id].append(ShareView(grant_id=row.grant_id, amount_micro=row.amount_micro))
    return shares
