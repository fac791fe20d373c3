"""The warning that credits run low: told once each time that an account's balance falls below its threshold.

The balance counts and not what is available: a hold comes back in part, and would be told as spent. Only grants and
corrections raise a balance, so that it falls below a threshold once, and again only after it was raised above it.
Everything here runs under the account's lock, in the transaction of the ledger entry that moved the balance.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from core.account_tables import AccountRow
from core.amounts import CREDIT_MICRO, credits_of
from core.ids import new_id
from core.settings import settings
from core.webhook_events import EventType
from core.webhook_tables import WebhookDeliveryRow, WebhookEndpointRow


@dataclass(frozen=True, kw_only=True)
class Moved:
    """An account's totals after its balance was moved, in micro-credits."""

    account_id: str
    balance_before_micro: int
    balance_micro: int
    held_micro: int
    #: The account's own threshold; None: the service's.
    own_threshold_micro: int | None

    @property
    def threshold_micro(self) -> int:
        """Below it credits are low; 0: they never are."""
        if self.own_threshold_micro is None:
            return settings().low_credits * CREDIT_MICRO
        return self.own_threshold_micro

    @property
    def has_become_low(self) -> bool:
        """Whether the balance has fallen below the threshold just now."""
        return self.balance_micro < self.threshold_micro <= self.balance_before_micro


def tell(connection: Connection, moved: Moved) -> bool:
    """Write a delivery for each endpoint that wants it, if an account's credits have become low; whether any does."""
    if not moved.has_become_low:
        return False
    endpoints = connection.execute(
        select(WebhookEndpointRow.id, WebhookEndpointRow.url).where(
            WebhookEndpointRow.account_id == moved.account_id,
            WebhookEndpointRow.disabled_at.is_(None),
            WebhookEndpointRow.events.contains([EventType.CREDITS_LOW]),
        )
    ).all()
    told = {
        "account_id": moved.account_id,
        "event": EventType.CREDITS_LOW,
        "event_id": new_id("evt"),
        "include_text": False,
        "data": _data(moved),
    }
    deliveries = [
        told | {"id": new_id("whd"), "endpoint_id": endpoint.id, "url": endpoint.url, "target": endpoint.id}
        for endpoint in endpoints
    ]
    if deliveries:
        connection.execute(insert(WebhookDeliveryRow), deliveries)
    return bool(deliveries)


def _data(moved: Moved) -> dict[str, object]:
    amounts_micro = {
        "balance": moved.balance_micro,
        "held": moved.held_micro,
        "available": moved.balance_micro - moved.held_micro,
        "threshold": moved.threshold_micro,
    }
    return {"id": moved.account_id, "object": "credits"} | {
        name: float(credits_of(amount_micro)) for name, amount_micro in amounts_micro.items()
    }


def set_threshold(connection: Connection, account_id: str, threshold_micro: int | None) -> None:
    """Warn an account below so many micro-credits; 0 never does, None follows the service's setting.

    It takes effect with the next fall: an account whose balance is below already is not told.
    """
    connection.execute(update(AccountRow).where(AccountRow.id == account_id).values(low_credits_micro=threshold_micro))
