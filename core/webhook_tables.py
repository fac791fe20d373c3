"""Receivers of webhooks, and what was sent to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.account_tables import AccountRow
from core.table_base import Base


class WebhookEndpointRow(Base):
    """An address to which an account has its events sent."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index("webhook_endpoints_of_account", "account_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(AccountRow.id))
    url: Mapped[str]
    events: Mapped[list[str]]
    include_text: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: The first attempt that failed since one succeeded.
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]


class WebhookSecretRow(Base):
    """What an endpoint's events, or an account's other ones, are signed with, encrypted."""

    __tablename__ = "webhook_secrets"

    #: An endpoint's id, or an account's.
    owner_id: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    #: The secret before the last rotation; it signs too, for a while.
    previous: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]


class WebhookDeliveryRow(Base):
    """One event on its way to one receiver; no foreign keys, so that the log outlasts what it tells of."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("webhook_deliveries_of_account", "account_id", "id"),
        Index("webhook_deliveries_due", "target", "due_at", postgresql_where=text("status = 'pending'")),
        Index("webhook_deliveries_overdue", "due_at", postgresql_where=text("status = 'pending'")),
        Index("webhook_deliveries_claimed", "target", postgresql_where=text("claimed_until IS NOT NULL")),
        Index("webhook_deliveries_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        Index(
            "webhook_deliveries_once_an_event",
            "job_id",
            "target",
            "event",
            unique=True,
            postgresql_where=text("job_id IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    endpoint_id: Mapped[str | None]
    job_id: Mapped[str | None]
    event: Mapped[str]
    #: The `webhook-id`: the same for all receivers and attempts of an event.
    event_id: Mapped[str]
    url: Mapped[str]
    #: Deliveries of one target share its few requests at once, and take nobody else's.
    target: Mapped[str]
    include_text: Mapped[bool]
    data: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default="pending")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: While a courier is at it.
    claimed_until: Mapped[datetime | None]
    #: Fencing token: raised by each claim; what a courier reports under an older one changes nothing.
    attempts: Mapped[int] = mapped_column(server_default="0")
    #: Attempts that failed since it was last scheduled anew.
    failures: Mapped[int] = mapped_column(server_default="0")
    ended_at: Mapped[datetime | None]
    #: That of its job or batch.
    origin: Mapped[dict[str, Any] | None]


class WebhookAttemptRow(Base):
    """How one request of a delivery went."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey(WebhookDeliveryRow.id, ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ended_at: Mapped[datetime] = mapped_column(server_default=func.now())
    latency_ms: Mapped[int]
    status_code: Mapped[int | None]
    #: The first KB of the answer.
    response: Mapped[str | None]
    error: Mapped[str | None]
