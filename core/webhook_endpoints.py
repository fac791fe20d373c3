"""An account's endpoints: addresses that hear of all its jobs, and of its credits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from core.accounts import Caller
from core.errors import MalformedRequest, NotFound
from core.ids import new_id
from core.webhook_deliveries import give_up
from core.webhook_events import EventType
from core.webhook_guard import check_webhook_url
from core.webhook_secrets import ensure_secret, forget_secret
from core.webhook_tables import WebhookDeliveryRow, WebhookEndpointRow

#: Endpoints of one account: each multiplies what every job sends.
MAX_ENDPOINTS = 20


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint as its account sees it."""

    id: str
    url: str
    events: tuple[EventType, ...]
    include_text: bool
    created_at: datetime
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None


@dataclass(frozen=True, kw_only=True)
class NewEndpoint:
    """What a caller says of an endpoint."""

    url: str
    events: Sequence[EventType]
    include_text: bool


def create_endpoint(connection: Connection, caller: Caller, new: NewEndpoint) -> tuple[Endpoint, str]:
    """Make an endpoint; also its secret, which is not shown again.

    Raises:
        UrlNotAllowed: Nothing may be sent there.
        MalformedRequest: The account has as many endpoints as it may.
        Unavailable: The operator has set no secret key.
    """
    check_webhook_url(new.url, param="url")
    if len(list_endpoints(connection, caller)) >= MAX_ENDPOINTS:
        raise MalformedRequest(f"an account has at most {MAX_ENDPOINTS} endpoints")
    endpoint_id = new_id("whe")
    connection.execute(
        insert(WebhookEndpointRow).values(
            id=endpoint_id,
            account_id=caller.account_id,
            url=new.url,
            events=[event.value for event in new.events],
            include_text=new.include_text,
        )
    )
    return get_endpoint(connection, caller, endpoint_id), ensure_secret(connection, endpoint_id)


def list_endpoints(connection: Connection, caller: Caller) -> list[Endpoint]:
    """The account's endpoints, oldest first."""
    query = select(WebhookEndpointRow.__table__).where(WebhookEndpointRow.account_id == caller.account_id)
    return [_endpoint(row) for row in connection.execute(query.order_by(WebhookEndpointRow.id))]


def get_endpoint(connection: Connection, caller: Caller, endpoint_id: str) -> Endpoint:
    """One of the account's endpoints.

    Raises:
        NotFound: The account has none of this id.
    """
    row = connection.execute(
        select(WebhookEndpointRow.__table__).where(
            WebhookEndpointRow.id == endpoint_id, WebhookEndpointRow.account_id == caller.account_id
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no webhook endpoint {endpoint_id}")
    return _endpoint(row)


def change_endpoint(
    connection: Connection, caller: Caller, endpoint_id: str, *, changes: dict[str, Any], enabled: bool | None
) -> Endpoint:
    """Change where or what is sent; enable an endpoint that was disabled, or disable it.

    Args:
        connection: An open transaction.
        caller: Whose endpoint.
        endpoint_id: Which.
        changes: New values of `url`, `events`, `include_text`, those that change.
        enabled: None leaves it as it is.

    Raises:
        NotFound: The account has none of this id.
        UrlNotAllowed: Nothing may be sent there.
    """
    get_endpoint(connection, caller, endpoint_id)
    if "url" in changes:
        check_webhook_url(changes["url"], param="url")
    if changes:
        _set(connection, endpoint_id, **changes)
    if enabled is True:
        _set(connection, endpoint_id, disabled_at=None, disabled_reason=None, failing_since=None)
    elif enabled is False:
        disable(connection, endpoint_id, reason="disabled by its account")
    return get_endpoint(connection, caller, endpoint_id)


def delete_endpoint(connection: Connection, caller: Caller, endpoint_id: str) -> None:
    """Delete an endpoint; what has not been delivered to it is given up.

    Raises:
        NotFound: The account has none of this id.
    """
    get_endpoint(connection, caller, endpoint_id)
    give_up(connection, WebhookDeliveryRow.target == endpoint_id)
    connection.execute(delete(WebhookEndpointRow).where(WebhookEndpointRow.id == endpoint_id))
    forget_secret(connection, endpoint_id)


def disable(connection: Connection, endpoint_id: str, *, reason: str) -> bool:
    """Send nothing more to an endpoint, and give up what was on its way; False when it was disabled already."""
    disabled = connection.execute(
        update(WebhookEndpointRow)
        .where(WebhookEndpointRow.id == endpoint_id, WebhookEndpointRow.disabled_at.is_(None))
        .values(disabled_at=func.now(), disabled_reason=reason)
        .returning(WebhookEndpointRow.id)
    ).scalar_one_or_none()
    give_up(connection, WebhookDeliveryRow.target == endpoint_id)
    return disabled is not None


def _set(connection: Connection, endpoint_id: str, **values: object) -> None:
    connection.execute(update(WebhookEndpointRow).where(WebhookEndpointRow.id == endpoint_id).values(**values))


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=row.id,
        url=row.url,
        events=tuple(EventType(event) for event in row.events),
        include_text=row.include_text,
        created_at=row.created_at,
        failing_since=row.failing_since,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
    )
