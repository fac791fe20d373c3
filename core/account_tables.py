"""Accounts and their keys."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.table_base import Base


class AccountRow(Base):
    """Who pays. The running totals are written only together with a ledger row."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("held_micro >= 0", name="accounts_held_not_negative"),
        CheckConstraint("balance_micro >= held_micro", name="accounts_available_not_negative"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    balance_micro: Mapped[int] = mapped_column(server_default="0")
    held_micro: Mapped[int] = mapped_column(server_default="0")
    #: Since when its keys are refused.
    suspended_at: Mapped[datetime | None]
    #: Image files of its jobs that have not been deleted, and its other files.
    stored_bytes: Mapped[int] = mapped_column(server_default="0")
    #: How long its ended jobs are kept, 0 for ever; None: as the service's setting says.
    retention_days: Mapped[float | None]
    #: The balance below which it is told that credits run low, 0 never; None: as the service's setting says.
    low_credits_micro: Mapped[int | None]


class KeyRow(Base):
    """An API key: only its hash is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index(
            "api_keys_previous",
            "previous_sha256",
            unique=True,
            postgresql_where=text("previous_sha256 IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(AccountRow.id), index=True)
    name: Mapped[str]
    sha256: Mapped[bytes] = mapped_column(unique=True)
    last_four: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    scopes: Mapped[list[str]] = mapped_column(server_default="{jobs,read,admin}")
    expires_at: Mapped[datetime | None]
    #: To the minute.
    last_used_at: Mapped[datetime | None]
    #: Most that its jobs may cost in a calendar month (UTC), in micro-credits; None: no cap.
    monthly_cap_micro: Mapped[int | None]
    #: What its jobs hold now; written only together with a ledger row.
    held_micro: Mapped[int] = mapped_column(server_default="0")
    #: Image files of its jobs that have not been deleted.
    stored_bytes: Mapped[int] = mapped_column(server_default="0")
    #: Limits of its own, below the account's, by their name in `api/key_schemas.py`.
    limits: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    #: The secret before the last rotation, and until when it is still taken.
    previous_sha256: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]


class KeyMonthRow(Base):
    """What a key's jobs were charged in a month (UTC); written only together with a ledger row."""

    __tablename__ = "key_months"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    #: Its first day.
    month: Mapped[date] = mapped_column(primary_key=True)
    captured_micro: Mapped[int]


class IdempotencyRow(Base):
    """A submission that was taken once, under its caller's key or id."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index("idempotency_keys_to_forget", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    account_id: Mapped[str] = mapped_column(ForeignKey(AccountRow.id), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    #: Of the first answer.
    status_code: Mapped[int] = mapped_column(SmallInteger)
    job_id: Mapped[str]
    #: None: as long as the job.
    expires_at: Mapped[datetime | None]
