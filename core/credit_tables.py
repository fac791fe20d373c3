"""The ledger, and the credits that it moves."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.account_tables import AccountRow
from core.table_base import Base


class LedgerRow(Base):
    """One movement of credits, never changed; the sign of each kind is stated in `core/credits.py`.

    No foreign key to jobs or images, so that deleting a job never touches the ledger.
    """

    __tablename__ = "ledger"
    __table_args__ = (
        Index("ledger_of_account", "account_id", "id"),
        Index("ledger_of_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
        Index(
            "ledger_one_hold_a_job",
            "job_id",
            unique=True,
            postgresql_where=text("kind = 'hold' AND image_id IS NULL"),
        ),
        Index(
            "ledger_once_an_image",
            "image_id",
            "kind",
            unique=True,
            postgresql_where=text("image_id IS NOT NULL AND reason IS DISTINCT FROM 'layout'"),
        ),
        Index("ledger_one_layout_an_image", "image_id", unique=True, postgresql_where=text("reason = 'layout'")),
        Index("ledger_captures_of_account", "account_id", "created_at", postgresql_where=text("kind = 'capture'")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(AccountRow.id))
    kind: Mapped[str]
    amount_micro: Mapped[int]
    job_id: Mapped[str | None]
    image_id: Mapped[str | None]
    key_id: Mapped[str | None]
    reason: Mapped[str | None]
    #: What a capture was for; jobs may be gone when a report is asked for.
    lines: Mapped[int | None]
    model: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GrantRow(Base):
    """Credits with terms; the posted ones' remaining parts are together the account's balance."""

    __tablename__ = "credit_grants"
    __table_args__ = (
        CheckConstraint(
            "remaining_micro >= 0 AND remaining_micro <= amount_micro", name="credit_grants_remaining_within_amount"
        ),
        Index("credit_grants_with_something_left", "account_id", postgresql_where=text("remaining_micro > 0")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(AccountRow.id))
    category: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    amount_micro: Mapped[int]
    remaining_micro: Mapped[int]
    effective_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: When it came into the balance; None while its time has not begun.
    posted_at: Mapped[datetime | None]


class SpendRow(Base):
    """Which grant bore how much of a ledger entry that lowered the balance; never changed."""

    __tablename__ = "grant_spends"

    ledger_id: Mapped[int] = mapped_column(ForeignKey(LedgerRow.id), primary_key=True)
    grant_id: Mapped[str] = mapped_column(ForeignKey(GrantRow.id), primary_key=True)
    amount_micro: Mapped[int]
