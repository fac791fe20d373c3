"""What each key's jobs hold and were charged, and the monthly cap that is judged by it.

Everything here runs under the account's lock; the totals move only together with ledger entries, and the audit
recomputes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from sqlalchemy import ColumnElement, Connection, SQLColumnExpression, bindparam, func, literal_column, select, text
from sqlalchemy import Date as SqlDate

from core.account_tables import KeyMonthRow, KeyRow
from core.amounts import credits_of
from core.errors import KeyBudgetExceeded

#: Months are those of UTC, like every time of the service.
_THIS_MONTH = "CAST(date_trunc('month', timezone('UTC', now())) AS date)"
THIS_MONTH: Final[ColumnElement[date]] = literal_column(_THIS_MONTH, SqlDate)


@dataclass(frozen=True, kw_only=True)
class Change:
    """How ledger entries that are written together move one key's totals."""

    held_micro: int
    captured_micro: int


# It runs with every image, so it is made once: making a statement costs about as much as sending it.
_MOVE = text(
    f"""
    WITH moved AS (
        SELECT * FROM unnest(CAST(:keys AS text[]), CAST(:held AS bigint[]), CAST(:captured AS bigint[]))
            AS moved (key_id, held_micro, captured_micro)
    ), captured AS (
        INSERT INTO key_months (key_id, month, captured_micro)
        SELECT key_id, {_THIS_MONTH}, captured_micro
        FROM moved WHERE captured_micro <> 0
        ON CONFLICT (key_id, month)
        DO UPDATE SET captured_micro = key_months.captured_micro + excluded.captured_micro)
    UPDATE api_keys SET held_micro = api_keys.held_micro + moved.held_micro
    FROM moved WHERE api_keys.id = moved.key_id AND moved.held_micro <> 0
    """
)


def move(connection: Connection, changes: Mapping[str, Change]) -> None:
    """Move the totals of keys; the caller writes the ledger entries in the same transaction."""
    if changes:
        connection.execute(
            _MOVE,
            {
                "keys": list(changes),
                "held": [change.held_micro for change in changes.values()],
                "captured": [change.captured_micro for change in changes.values()],
            },
        )


def captured_this_month(key_id: SQLColumnExpression[str]) -> ColumnElement[int]:
    """What a key's jobs were charged in this month, as a column."""
    month = select(KeyMonthRow.captured_micro).where(KeyMonthRow.key_id == key_id, KeyMonthRow.month == THIS_MONTH)
    return func.coalesce(month.scalar_subquery(), 0)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A key's cap of this month, and what counts against it."""

    cap_micro: int
    captured_micro: int
    held_micro: int


_BUDGET = select(
    KeyRow.monthly_cap_micro.label("cap_micro"),
    captured_this_month(KeyRow.id).label("captured_micro"),
    KeyRow.held_micro,
).where(KeyRow.id == bindparam("key"), KeyRow.monthly_cap_micro.is_not(None))


def budget(connection: Connection, key_id: str) -> Budget | None:
    """The budget of a key; None where it has no cap."""
    row = connection.execute(_BUDGET, {"key": key_id}).one_or_none()
    return None if row is None else Budget(**row._mapping)


def check_cap(budget: Budget | None, needed_micro: int) -> None:
    """Judge whether a key may hold so much more: what it was charged this month and holds counts against its cap.

    Raises:
        KeyBudgetExceeded: It may not; the message tells what was charged from what running jobs hold.
    """
    if budget is None or budget.captured_micro + budget.held_micro + needed_micro <= budget.cap_micro:
        return
    amounts = (budget.cap_micro, budget.captured_micro, budget.held_micro, needed_micro)
    cap, captured, held, needed = (credits_of(amount_micro) for amount_micro in amounts)
    raise KeyBudgetExceeded(
        f"this key may spend {cap} credits a month: {captured} were charged, {held} are held by running jobs, "
        f"{needed} more are needed"
    )
