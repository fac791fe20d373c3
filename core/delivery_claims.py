"""What a courier does to deliveries: claim those that are due, receiver by receiver, and write how they went.

Postgres holds them: a courier that dies loses nothing but time, since its claims run out. A claim raises the attempt,
which is the fencing token; a report under an older one changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, func, insert, select, text, tuple_, update

from core.database import looking, transaction
from core.origin import Origin
from core.settings import settings
from core.webhook_bodies import body, fitting, job_text
from core.webhook_deliveries import DeliveryStatus
from core.webhook_endpoints import disable
from core.webhook_events import EventType
from core.webhook_schedule import dead_after, next_delay
from core.webhook_secrets import secrets_in_use
from core.webhook_tables import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow

#: Requests that one receiver gets at once; one that is in trouble gets them one by one.
PER_TARGET = 4
#: A claim outlasts its attempt by so much, for what comes before and after the request.
_MARGIN_S = 10.0
#: Any number does, so long as all couriers take the same.
_ADVISORY_LOCK = 3_911_207_465

_log = structlog.get_logger(__name__)

# The recursion hops from one receiver to the next along the index, so that the backlog of a dead one costs the others
# nothing. The end of a job waits for one attempt of its start; a start that has had its attempt gives way to the end.
_DUE = text(
    """
    WITH RECURSIVE receivers AS (
        (SELECT target FROM webhook_deliveries WHERE status = 'pending' ORDER BY target LIMIT 1)
        UNION ALL
        SELECT following.target FROM receivers CROSS JOIN LATERAL (
            SELECT target FROM webhook_deliveries
            WHERE status = 'pending' AND target > receivers.target ORDER BY target LIMIT 1) following
    )
    SELECT due.id
    FROM receivers
    CROSS JOIN LATERAL (
        SELECT count(*) AS requests FROM webhook_deliveries
        WHERE target = receivers.target AND claimed_until IS NOT NULL AND claimed_until > now()
          AND status = 'pending') busy
    CROSS JOIN LATERAL (
        SELECT d.id, d.due_at, row_number() OVER (ORDER BY d.due_at, d.id) AS place FROM (
            SELECT id, due_at FROM webhook_deliveries one
            WHERE status = 'pending' AND target = receivers.target AND due_at <= now()
              AND (claimed_until IS NULL OR claimed_until <= now())
              AND NOT EXISTS (
                SELECT 1 FROM webhook_deliveries other
                WHERE other.job_id = one.job_id AND other.target = one.target AND other.event <> one.event
                  AND other.status = 'pending'
                  AND CASE WHEN one.event = 'job.started' THEN one.attempts > 0
                      ELSE other.event = 'job.started' AND (other.attempts = 0 OR other.claimed_until > now()) END)
            ORDER BY due_at, id LIMIT :per_target) d) due
    WHERE (receivers.target = ANY(:troubled)) = :in_trouble
      AND busy.requests + due.place <= CASE WHEN :in_trouble THEN 1 ELSE :per_target END
    ORDER BY due.due_at, due.id
    LIMIT :most
    """
)


_ANY_WAIT = text("SELECT EXISTS (SELECT 1 FROM webhook_deliveries WHERE status = 'pending')")


@dataclass(frozen=True, kw_only=True)
class ClaimedDelivery:
    """One attempt that this courier may make, until its claim runs out."""

    id: str
    #: The fencing token, and the attempt's number in the log.
    attempt: int
    endpoint_id: str | None
    account_id: str
    job_id: str | None
    event: str
    event_id: str
    url: str
    target: str
    include_text: bool
    created_at: datetime
    data: dict[str, Any]
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """How a request went."""

    latency_ms: int
    #: None when there was no answer.
    status_code: int | None = None
    response: str | None = None
    #: None when it was delivered.
    error: str | None = None
    #: What the receiver asked for; 0 if nothing.
    retry_after_s: float = 0

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more: 410."""
        return self.status_code == 410


def claim_deliveries(*, most: int, troubled: Collection[str], in_trouble: bool) -> list[ClaimedDelivery]:
    """Take up to so many deliveries that are due, the oldest first, of receivers in trouble or of the others.

    Args:
        most: Requests that this courier can still make.
        troubled: Receivers whose last attempt failed.
        in_trouble: Whether deliveries to these are wanted, or to all but these.
    """
    if most <= 0 or not _any_wait():
        return []
    with transaction() as connection:
        # One courier at a time looks and takes, so that two never send more to a receiver than it should get.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        due = connection.execute(
            _DUE,
            {"most": most, "troubled": list(troubled), "in_trouble": in_trouble, "per_target": PER_TARGET},
        )
        claimed = _take(connection, list(due.scalars()))
        _supersede(connection, claimed)
    return claimed


def _any_wait() -> bool:
    # Each change of a job asks, and most jobs have no receiver: one cheap look instead of four trips.
    with looking() as connection:
        any_wait: bool = connection.execute(_ANY_WAIT).scalar_one()
        return any_wait


def _take(connection: Connection, delivery_ids: Sequence[str]) -> list[ClaimedDelivery]:
    if not delivery_ids:
        return []
    free = (
        select(WebhookDeliveryRow.id)
        .where(WebhookDeliveryRow.id.in_(delivery_ids), WebhookDeliveryRow.status == DeliveryStatus.PENDING)
        .with_for_update(skip_locked=True)
    )
    lease = timedelta(seconds=settings().webhook_timeout_s + _MARGIN_S)
    taken = (
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.id.in_(free.scalar_subquery()))
        .values(claimed_until=func.now() + lease, attempts=WebhookDeliveryRow.attempts + 1)
        .returning(WebhookDeliveryRow.__table__)
        .cte("taken")
    )
    # An endpoint's present address, so that what fails can be delivered by changing it.
    rows = connection.execute(
        select(taken, func.coalesce(WebhookEndpointRow.url, taken.c.url).label("present_url"))
        .outerjoin(WebhookEndpointRow, WebhookEndpointRow.id == taken.c.endpoint_id)
        .order_by(taken.c.due_at, taken.c.id)
    )
    return [
        ClaimedDelivery(
            id=row.id,
            attempt=row.attempts,
            endpoint_id=row.endpoint_id,
            account_id=row.account_id,
            job_id=row.job_id,
            event=row.event,
            event_id=row.event_id,
            url=row.present_url,
            target=row.target,
            include_text=row.include_text,
            created_at=row.created_at,
            data=row.data,
            origin=Origin.read(row.origin),
        )
        for row in rows
    ]


def _supersede(connection: Connection, claimed: Collection[ClaimedDelivery]) -> None:
    told = [(delivery.job_id, delivery.target) for delivery in claimed if delivery.event != EventType.STARTED]
    if told:
        connection.execute(
            update(WebhookDeliveryRow)
            .where(
                tuple_(WebhookDeliveryRow.job_id, WebhookDeliveryRow.target).in_(told),
                WebhookDeliveryRow.event == EventType.STARTED,
                WebhookDeliveryRow.status == DeliveryStatus.PENDING,
            )
            .values(status=DeliveryStatus.SUPERSEDED, ended_at=func.now(), claimed_until=None)
        )


def content(delivery: ClaimedDelivery) -> tuple[bytes, list[str]]:
    """The bytes to send, and the secrets that sign them.

    Raises:
        Unavailable: The secret cannot be read, or the database is away.
    """
    with transaction() as connection:
        secrets = secrets_in_use(connection, delivery.endpoint_id or delivery.account_id)
        wants_text = delivery.include_text and delivery.job_id and delivery.event != EventType.STARTED
        text_read = job_text(connection, delivery.job_id) if wants_text and delivery.job_id else None
    data = fitting(delivery.data, text_read)
    return (
        body(event=delivery.event, event_id=delivery.event_id, created_at=delivery.created_at, data=data),
        secrets,
    )


def report(delivery: ClaimedDelivery, result: AttemptResult) -> None:
    """Write how an attempt went and what comes next; nothing when its claim was taken over meanwhile."""
    with transaction() as connection:
        if delivery.endpoint_id is not None:
            # Before the delivery, in the order of those who disable an endpoint and give up its deliveries.
            connection.execute(
                select(WebhookEndpointRow.id).where(WebhookEndpointRow.id == delivery.endpoint_id).with_for_update()
            )
        failures = connection.execute(
            select(WebhookDeliveryRow.failures)
            .where(
                WebhookDeliveryRow.id == delivery.id,
                WebhookDeliveryRow.attempts == delivery.attempt,
            )
            .with_for_update()
        ).scalar_one_or_none()
        if failures is None:
            return
        _log_attempt(connection, delivery, result)
        if result.error is None:
            _end(connection, delivery, DeliveryStatus.DELIVERED)
        else:
            _try_later(connection, delivery, result, failures + 1)
        if delivery.endpoint_id is not None:
            _judge_endpoint(connection, delivery.endpoint_id, result)


def _log_attempt(connection: Connection, delivery: ClaimedDelivery, result: AttemptResult) -> None:
    connection.execute(
        insert(WebhookAttemptRow).values(
            delivery_id=delivery.id,
            number=delivery.attempt,
            latency_ms=result.latency_ms,
            status_code=result.status_code,
            response=result.response,
            error=result.error,
        )
    )


def _end(connection: Connection, delivery: ClaimedDelivery, status: DeliveryStatus) -> None:
    connection.execute(
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.id == delivery.id)
        .values(status=status, ended_at=func.now(), claimed_until=None)
    )


def _try_later(connection: Connection, delivery: ClaimedDelivery, result: AttemptResult, failures: int) -> None:
    delay = next_delay(failures, scale=settings().webhook_schedule_scale, retry_after_s=result.retry_after_s)
    if delay is None or result.gone:
        _end(connection, delivery, DeliveryStatus.FAILED)
        return
    connection.execute(
        update(WebhookDeliveryRow)
        # One that was given up meanwhile, with its endpoint, stays so.
        .where(WebhookDeliveryRow.id == delivery.id, WebhookDeliveryRow.status == DeliveryStatus.PENDING)
        .values(due_at=func.now() + delay, failures=failures, claimed_until=None)
    )


def _judge_endpoint(connection: Connection, endpoint_id: str, result: AttemptResult) -> None:
    of_endpoint = WebhookEndpointRow.id == endpoint_id
    if result.error is None:
        connection.execute(
            update(WebhookEndpointRow)
            .where(of_endpoint, WebhookEndpointRow.failing_since.is_not(None))
            .values(failing_since=None)
        )
        return
    dead = func.now() - WebhookEndpointRow.failing_since > dead_after(settings().webhook_schedule_scale)
    is_dead = connection.execute(
        update(WebhookEndpointRow)
        .where(of_endpoint)
        .values(failing_since=func.coalesce(WebhookEndpointRow.failing_since, func.now()))
        .returning(dead)
    ).scalar_one_or_none()
    if result.gone:
        _disable(connection, endpoint_id, "the receiver answered 410 Gone")
    elif is_dead:
        _disable(connection, endpoint_id, f"every attempt has failed for {dead_after(1).days} days")


def _disable(connection: Connection, endpoint_id: str, reason: str) -> None:
    if disable(connection, endpoint_id, reason=reason):
        _log.warning("a webhook endpoint is disabled", endpoint=endpoint_id, reason=reason)
