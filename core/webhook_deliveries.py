"""The log of deliveries as their account sees it, and what it can do about them: send again, one or all that failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from core.accounts import Caller
from core.errors import NotFound
from core.ids import new_id
from core.origin import Origin
from core.settings import settings
from core.webhook_events import EventType
from core.webhook_schedule import overdue_after
from core.webhook_tables import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow

#: Attempts that a delivery is shown with, the latest ones.
SHOWN_ATTEMPTS = 20
#: Deliveries that one round of the cleaner deletes, or gives up.
_MOST_A_ROUND = 1000


class DeliveryStatus(StrEnum):
    """Where a delivery is."""

    #: It is sent now, or at its next time.
    PENDING = "pending"
    #: The receiver answered with 2xx.
    DELIVERED = "delivered"
    #: All attempts failed, or the endpoint was disabled or deleted.
    FAILED = "failed"
    #: A start that could not be told before the end: the end is told instead.
    SUPERSEDED = "superseded"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one request went."""

    number: int
    ended_at: datetime
    latency_ms: int
    #: None when there was no answer.
    status_code: int | None
    #: The first KB of the answer.
    response: str | None
    #: What went wrong; None when it was delivered.
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One event on its way to one receiver."""

    id: str
    event: str
    event_id: str
    endpoint_id: str | None
    job_id: str | None
    url: str
    status: DeliveryStatus
    created_at: datetime
    ended_at: datetime | None
    #: None when it has ended.
    next_attempt_at: datetime | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, kw_only=True)
class DeliveryFilter:
    """Which of an account's deliveries are wanted; what is None narrows nothing."""

    status: str | None = None
    endpoint_id: str | None = None
    job_id: str | None = None
    event: str | None = None
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """It as SQL."""
        wanted: list[tuple[Any, Any]] = [
            (WebhookDeliveryRow.status, self.status),
            (WebhookDeliveryRow.endpoint_id, self.endpoint_id),
            (WebhookDeliveryRow.job_id, self.job_id),
            (WebhookDeliveryRow.event, self.event),
        ]
        conditions = [column == value for column, value in wanted if value is not None]
        return conditions if self.since is None else [*conditions, WebhookDeliveryRow.created_at >= self.since]


def list_deliveries(
    connection: Connection, caller: Caller, wanted: DeliveryFilter, *, before: str | None, most: int
) -> list[Delivery]:
    """The account's deliveries, newest first; `before` is the id of the last one of the page before."""
    query = select(WebhookDeliveryRow.__table__).where(
        WebhookDeliveryRow.account_id == caller.account_id, *wanted.conditions()
    )
    if before is not None:
        query = query.where(WebhookDeliveryRow.id < before)
    rows = connection.execute(query.order_by(WebhookDeliveryRow.id.desc()).limit(most)).all()
    return _deliveries(connection, rows)


def get_delivery(connection: Connection, caller: Caller, delivery_id: str) -> Delivery:
    """One of the account's deliveries.

    Raises:
        NotFound: The account has none of this id.
    """
    row = connection.execute(
        select(WebhookDeliveryRow.__table__).where(
            WebhookDeliveryRow.id == delivery_id, WebhookDeliveryRow.account_id == caller.account_id
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no webhook delivery {delivery_id}")
    return _deliveries(connection, [row])[0]


def resend(connection: Connection, caller: Caller, delivery_id: str) -> Delivery:
    """Send a delivery again now, under the same `webhook-id`, whatever became of it; its schedule starts anew.

    Raises:
        NotFound: The account has none of this id, or its endpoint was deleted.
    """
    get_delivery(connection, caller, delivery_id)
    if not _send_again(connection, [WebhookDeliveryRow.id == delivery_id]):
        raise NotFound("the endpoint of this delivery was deleted")
    return get_delivery(connection, caller, delivery_id)


def replay(connection: Connection, caller: Caller, *, since: datetime, endpoint_id: str | None) -> int:
    """Send all deliveries again that failed and whose event happened since, but to disabled endpoints; how many."""
    failed = DeliveryFilter(status=DeliveryStatus.FAILED, endpoint_id=endpoint_id, since=since)
    disabled = exists().where(
        WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id, WebhookEndpointRow.disabled_at.is_not(None)
    )
    own = WebhookDeliveryRow.account_id == caller.account_id
    return _send_again(connection, [own, ~disabled, *failed.conditions()])


def ping(connection: Connection, caller: Caller, *, endpoint_id: str, url: str) -> Delivery:
    """Send a trial event to an endpoint that is known to be the caller's."""
    delivery_id = new_id("whd")
    connection.execute(
        insert(WebhookDeliveryRow).values(
            id=delivery_id,
            account_id=caller.account_id,
            endpoint_id=endpoint_id,
            event=EventType.PING,
            event_id=new_id("evt"),
            url=url,
            target=endpoint_id,
            include_text=False,
            data={"id": endpoint_id, "object": "webhook_endpoint"},
            origin=Origin.here().to_store(),
        )
    )
    return get_delivery(connection, caller, delivery_id)


def count_due(connection: Connection) -> int:
    """Deliveries whose time has come and that no courier is sending."""
    due = select(func.count()).where(
        WebhookDeliveryRow.status == DeliveryStatus.PENDING, WebhookDeliveryRow.due_at <= func.now(), _is_unclaimed()
    )
    return connection.execute(due).scalar_one()


def forget_job(connection: Connection, job_id: str) -> None:
    """Take out of the log what it holds of a deleted job's content: metadata, and what receivers answered."""
    _forget(connection, WebhookDeliveryRow.job_id == job_id)


def forget_batches(connection: Connection, account_ids: Collection[str], batch_ids: Collection[str]) -> None:
    """Take out of the log what it holds of batches of these accounts, as of a deleted job."""
    of_batches = and_(
        WebhookDeliveryRow.account_id.in_(account_ids),
        WebhookDeliveryRow.event.startswith("batch."),
        WebhookDeliveryRow.data["id"].astext.in_(batch_ids),
    )
    _forget(connection, of_batches)


def _forget(connection: Connection, told_of: ColumnElement[bool]) -> None:
    without_metadata = WebhookDeliveryRow.data.op("-")(literal("metadata", Text))
    connection.execute(update(WebhookDeliveryRow).where(told_of).values(data=without_metadata))
    answered = select(WebhookDeliveryRow.id).where(told_of).scalar_subquery()
    connection.execute(
        update(WebhookAttemptRow).where(WebhookAttemptRow.delivery_id.in_(answered)).values(response=None)
    )


def delete_old(connection: Connection) -> int:
    """Delete deliveries that ended longer ago than the log goes back, some at a time; how many."""
    old = (
        select(WebhookDeliveryRow.id)
        .where(WebhookDeliveryRow.ended_at < func.now() - timedelta(days=settings().webhook_log_days))
        .limit(_MOST_A_ROUND)
    )
    deleted = connection.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.id.in_(old.scalar_subquery())))
    return deleted.rowcount


def give_up_overdue(connection: Connection) -> int:
    """Give up deliveries that have waited for their turn too long, some at a time; how many."""
    overdue = (
        select(WebhookDeliveryRow.id)
        .where(
            WebhookDeliveryRow.status == DeliveryStatus.PENDING,
            WebhookDeliveryRow.due_at < func.now() - overdue_after(settings().webhook_schedule_scale),
            _is_unclaimed(),
        )
        .limit(_MOST_A_ROUND)
        .with_for_update(skip_locked=True)
    )
    return give_up(connection, WebhookDeliveryRow.id.in_(overdue.scalar_subquery()))


def give_up(connection: Connection, which: ColumnElement[bool]) -> int:
    """End those of these deliveries that have not ended, undelivered; how many."""
    given_up = connection.execute(
        update(WebhookDeliveryRow)
        .where(which, WebhookDeliveryRow.status == DeliveryStatus.PENDING)
        .values(status=DeliveryStatus.FAILED, ended_at=func.now(), claimed_until=None)
    )
    return given_up.rowcount


def _is_unclaimed() -> ColumnElement[bool]:
    return or_(WebhookDeliveryRow.claimed_until.is_(None), WebhookDeliveryRow.claimed_until <= func.now())


def _send_again(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> int:
    # What was signed with an endpoint's secret cannot be sent without it.
    endpoint = exists().where(WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id)
    # A claim that stands is left alone: that attempt is under way, and what it brings is written as ever.
    sent = connection.execute(
        update(WebhookDeliveryRow)
        .where(*conditions, or_(WebhookDeliveryRow.endpoint_id.is_(None), endpoint))
        .values(status=DeliveryStatus.PENDING, due_at=func.now(), failures=0, ended_at=None)
        .returning(WebhookDeliveryRow.id)
    )
    return len(sent.all())


def _deliveries(connection: Connection, rows: Sequence[Row[Any]]) -> list[Delivery]:
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    found = connection.execute(
        select(WebhookAttemptRow.__table__)
        .where(WebhookAttemptRow.delivery_id.in_([row.id for row in rows]))
        .order_by(WebhookAttemptRow.delivery_id, WebhookAttemptRow.number)
    )
    for row in found:
        attempts[row.delivery_id].append(
            Attempt(
                number=row.number,
                ended_at=row.ended_at,
                latency_ms=row.latency_ms,
                status_code=row.status_code,
                response=row.response,
                error=row.error,
            )
        )
    return [
        Delivery(
            id=row.id,
            event=row.event,
            event_id=row.event_id,
            endpoint_id=row.endpoint_id,
            job_id=row.job_id,
            url=row.url,
            status=DeliveryStatus(row.status),
            created_at=row.created_at,
            ended_at=row.ended_at,
            next_attempt_at=row.due_at if row.status == DeliveryStatus.PENDING else None,
            attempts=tuple(attempts[row.id][-SHOWN_ATTEMPTS:]),
        )
        for row in rows
    ]
