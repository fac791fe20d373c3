"""Grants: credits with terms, and which of them paid for what; their sums are the account's balance.

Everything here runs under the account's lock. The order in which grants pay: those that expire soonest first; among
equals the lower priority number, then promotional before paid, then the oldest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from core.credit_tables import GrantRow
from core.database import any_of
from core.errors import InkqueueError
from core.ids import new_id
from core.job_tables import JobRow


class Category(StrEnum):
    """Why an account was given credits."""

    #: Somebody paid for them.
    PAID = "paid"
    #: They were a gift; a gift is spent before what was paid for.
    PROMOTIONAL = "promotional"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """When a grant can be spent, and before which others."""

    category: Category = Category.PROMOTIONAL
    #: Lower pays first among grants that expire together.
    priority: int = 0
    #: None: at once.
    effective_at: datetime | None = None
    #: None: never.
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Payment:
    """A ledger entry that lowers a balance, and must be borne by grants."""

    ledger_id: int
    account_id: str
    amount_micro: int
    #: The one grant that bears it; None: whichever comes first.
    grant_id: str | None = None
    #: When the job was submitted that it pays for: grants that were over by then pay only what no other can.
    submitted_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class GrantView:
    """A grant that has something left."""

    id: str
    category: Category
    amount_micro: int
    remaining_micro: int
    effective_at: datetime
    expires_at: datetime | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Due:
    """A grant whose time has come, and how much of it moves."""

    grant_id: str
    amount_micro: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class _Spend:
    """What one grant bears of a payment."""

    ledger_id: int
    grant_id: str
    amount_micro: int


# Spelled out: a parameter keeps Postgres from knowing, before it plans, that the index of these grants will do.
_HAS_SOMETHING_LEFT = GrantRow.remaining_micro > literal_column("0")
_SPENDABLE = and_(_HAS_SOMETHING_LEFT, GrantRow.posted_at.is_not(None))
_ORDER = (
    GrantRow.expires_at.asc().nulls_last(),
    GrantRow.priority,
    GrantRow.category.desc(),
    GrantRow.effective_at,
    GrantRow.id,
)
_OVER = (
    select(
        GrantRow.id,
        GrantRow.remaining_micro,
        GrantRow.reason,
        func.coalesce(
            select(cast(func.sum(JobRow.held_micro), BigInteger))
            .where(
                JobRow.account_id == GrantRow.account_id,
                text("jobs.status IN ('queued', 'running')"),
                JobRow.created_at < GrantRow.expires_at,
            )
            .scalar_subquery(),
            0,
        ).label("held_before_micro"),
    )
    .where(GrantRow.account_id == bindparam("account"), _SPENDABLE, GrantRow.expires_at <= func.now())
    .order_by(*_ORDER)
)
# Statements that run with every image are made once: making one costs about as much as sending it.
_SPENDABLE_GRANTS = (
    select(GrantRow.id, GrantRow.account_id, GrantRow.remaining_micro, GrantRow.expires_at)
    .where(GrantRow.account_id == any_of("accounts"), _SPENDABLE)
    .order_by(*_ORDER)
)
_SPEND = text(
    """
    WITH spent AS (
        INSERT INTO grant_spends (ledger_id, grant_id, amount_micro)
        SELECT * FROM unnest(CAST(:ledger_ids AS bigint[]), CAST(:grants AS text[]), CAST(:amounts AS bigint[])))
    UPDATE credit_grants SET remaining_micro = changed.remaining_micro
    FROM unnest(CAST(:changed AS text[]), CAST(:left AS bigint[])) AS changed (id, remaining_micro)
    WHERE credit_grants.id = changed.id
    """
)


def add(connection: Connection, account_id: str, amount_micro: int, terms: Terms, reason: str) -> str:
    """Write a grant down; it counts for nothing until it is posted. Return its id."""
    grant_id = new_id("grt")
    connection.execute(
        insert(GrantRow).values(
            id=grant_id,
            account_id=account_id,
            category=terms.category,
            priority=terms.priority,
            amount_micro=amount_micro,
            remaining_micro=amount_micro,
            effective_at=terms.effective_at or func.now(),
            expires_at=terms.expires_at,
            reason=reason,
        )
    )
    return grant_id


def post(connection: Connection, grant_ids: Sequence[str]) -> None:
    """Let these grants pay from now on: they have come into the balance."""
    connection.execute(update(GrantRow).where(GrantRow.id.in_(grant_ids)).values(posted_at=func.now()))


def bear(connection: Connection, payments: Sequence[Payment]) -> None:
    """Take payments out of grants, in the order in which grants pay, and write down which paid what."""
    accounts = {payment.account_id for payment in payments}
    grants = connection.execute(_SPENDABLE_GRANTS, {"accounts": list(accounts)}).all()
    left = {grant.id: grant.remaining_micro for grant in grants}
    of_account = {account: [grant for grant in grants if grant.account_id == account] for account in accounts}
    spends = [
        _Spend(ledger_id=payment.ledger_id, grant_id=grant_id, amount_micro=amount_micro)
        for payment in payments
        for grant_id, amount_micro in _shares(payment, _in_turn(payment, of_account[payment.account_id]), left)
    ]
    changed = sorted({spend.grant_id for spend in spends})
    connection.execute(
        _SPEND,
        {
            "ledger_ids": [spend.ledger_id for spend in spends],
            "grants": [spend.grant_id for spend in spends],
            "amounts": [spend.amount_micro for spend in spends],
            "changed": changed,
            "left": [left[grant_id] for grant_id in changed],
        },
    )


def _in_turn(payment: Payment, grants: Sequence[Any]) -> list[str]:
    """The account's grants in the order in which they pay."""
    if payment.grant_id is not None:
        return [payment.grant_id]
    at = payment.submitted_at
    was_over = [at is not None and grant.expires_at is not None and grant.expires_at <= at for grant in grants]
    return [grant.id for over in (False, True) for grant, was in zip(grants, was_over, strict=True) if was is over]


def _shares(payment: Payment, grant_ids: Sequence[str], left: dict[str, int]) -> Iterator[tuple[str, int]]:
    needed_micro = payment.amount_micro
    for grant_id in grant_ids:
        share_micro = min(needed_micro, left[grant_id])
        if share_micro:
            left[grant_id] -= share_micro
            needed_micro -= share_micro
            yield grant_id, share_micro
        if not needed_micro:
            return
    if needed_micro:
        raise InkqueueError(f"the grants of {payment.account_id} are smaller than its balance; see inkqueue audit")


def left(connection: Connection, account_id: str) -> list[GrantView]:
    """Grants that have something left, in the order in which they pay, those of the future too."""
    columns = [getattr(GrantRow, field.name) for field in fields(GrantView)]
    query = select(*columns).where(GrantRow.account_id == account_id, GrantRow.remaining_micro > 0).order_by(*_ORDER)
    rows = connection.execute(query).mappings()
    return [GrantView(**dict(row) | {"category": Category(row["category"])}) for row in rows]


def is_due() -> ColumnElement[bool]:
    """Condition on a grant: it has come into effect or to its end, and its account does not show it yet."""
    return and_(
        _HAS_SOMETHING_LEFT,
        or_(and_(GrantRow.posted_at.is_(None), GrantRow.effective_at <= func.now()), GrantRow.expires_at <= func.now()),
    )


def accounts_with_due(connection: Connection, *, most: int) -> list[str]:
    """Accounts that have grants to be settled.

    In any order: those whose running jobs still hold what is over stay due, and must not keep the others waiting.
    """
    query = select(GrantRow.account_id).where(is_due()).group_by(GrantRow.account_id)
    return list(connection.execute(query.order_by(func.random()).limit(most)).scalars())


def coming_into_effect(connection: Connection, account_id: str) -> list[Due]:
    """Grants of the account whose time has begun and that are not in its balance."""
    rows = connection.execute(
        select(GrantRow.id, GrantRow.amount_micro, GrantRow.reason).where(
            GrantRow.account_id == account_id, GrantRow.posted_at.is_(None), GrantRow.effective_at <= func.now()
        )
    )
    return [Due(grant_id=row.id, amount_micro=row.amount_micro, reason=row.reason) for row in rows]


def coming_to_an_end(connection: Connection, account_id: str, *, available_micro: int) -> list[Due]:
    """What expires of grants that are over: all but what is held by jobs that were submitted before their end.

    The first of them to pay keep it, so that those jobs are paid yet. No job that came later keeps anything.

    Args:
        connection: The account is locked.
        account_id: Whose grants.
        available_micro: What nothing holds of its balance: no more expires, whatever holds it.
    """
    over = connection.execute(_OVER, {"account": account_id}).all()
    due = []
    kept_micro = 0
    for grant in over:
        kept_of_this_micro = max(0, min(grant.remaining_micro, grant.held_before_micro - kept_micro))
        kept_micro += kept_of_this_micro
        expiring_micro = min(grant.remaining_micro - kept_of_this_micro, max(0, available_micro))
        if expiring_micro:
            available_micro -= expiring_micro
            due.append(Due(grant_id=grant.id, amount_micro=expiring_micro, reason=grant.reason))
    return due
