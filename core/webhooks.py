"""Events of jobs on their way out: what is told of a job, and to whom, written in the job's own transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Row, and_, insert, or_, select

from core.amounts import credits_of
from core.batch_tables import BatchRow
from core.database import any_of
from core.ids import new_id
from core.image_views import ErrorView, first_errors
from core.job_tables import JobRow
from core.settings import settings
from core.states import Status
from core.webhook_bodies import rfc3339
from core.webhook_events import EventType
from core.webhook_tables import WebhookDeliveryRow, WebhookEndpointRow

#: The longest part of an error's message that is told.
_MESSAGE_CHARACTERS = 500


#: What happens to a job.
JOB_EVENTS = (EventType.STARTED, EventType.COMPLETED, EventType.FAILED, EventType.CANCELED)
#: What is sent where nothing is said: the ends of jobs.
DEFAULT_EVENTS = (EventType.COMPLETED, EventType.FAILED, EventType.CANCELED)

_EVENT_OF = {
    Status.RUNNING: EventType.STARTED,
    Status.SUCCEEDED: EventType.COMPLETED,
    Status.PARTIAL: EventType.COMPLETED,
    Status.FAILED: EventType.FAILED,
    Status.EXPIRED: EventType.FAILED,
    Status.CANCELED: EventType.CANCELED,
}


# It runs with every job, so it is made once: making a statement costs about as much as sending it.
_RECEIVERS = (
    select(
        JobRow.__table__,
        WebhookEndpointRow.id.label("endpoint_id"),
        WebhookEndpointRow.url.label("endpoint_url"),
        WebhookEndpointRow.events.label("endpoint_events"),
        WebhookEndpointRow.include_text.label("endpoint_include_text"),
    )
    .outerjoin(
        WebhookEndpointRow,
        and_(WebhookEndpointRow.account_id == JobRow.account_id, WebhookEndpointRow.disabled_at.is_(None)),
    )
    .where(
        JobRow.id == any_of("jobs"),
        JobRow.batch_id.is_(None),
        or_(JobRow.webhook_url.is_not(None), WebhookEndpointRow.id.is_not(None)),
    )
    .order_by(JobRow.id, WebhookEndpointRow.id)
)


@dataclass(frozen=True, kw_only=True)
class JobWebhook:
    """Where one job's events go."""

    url: str
    events: tuple[EventType, ...] = DEFAULT_EVENTS
    include_text: bool = False


def announce(connection: Connection, job_ids: Collection[str]) -> bool:
    """Write a delivery of the present state of these locked jobs for each receiver that wants it; whether any does."""
    if not job_ids:
        return False
    rows = connection.execute(_RECEIVERS, {"jobs": list(job_ids)}).all()
    by_job: dict[str, list[Row[Any]]] = {}
    for row in rows:
        by_job.setdefault(row.id, []).append(row)
    errors = first_errors(connection, [of_one_job[0] for of_one_job in by_job.values()])
    deliveries = [
        delivery for of_one_job in by_job.values() for delivery in _deliveries(of_one_job, errors.get(of_one_job[0].id))
    ]
    if deliveries:
        connection.execute(insert(WebhookDeliveryRow), deliveries)
    return bool(deliveries)


def announce_batch(connection: Connection, batch_id: str) -> None:
    """Write a delivery of the present state of a batch for each endpoint of its account that wants to hear of it."""
    batch = connection.execute(select(BatchRow.__table__).where(BatchRow.id == batch_id)).one()
    event = EventType(f"batch.{batch.status}")
    endpoints = connection.execute(
        select(WebhookEndpointRow.id, WebhookEndpointRow.url).where(
            WebhookEndpointRow.account_id == batch.account_id,
            WebhookEndpointRow.disabled_at.is_(None),
            WebhookEndpointRow.events.contains([event.value]),
        )
    ).all()
    told = {
        "account_id": batch.account_id,
        "event": event,
        "event_id": new_id("evt"),
        "include_text": False,
        "data": _batch_data(batch),
        "origin": batch.origin,
    }
    deliveries = [
        told | {"id": new_id("whd"), "endpoint_id": row.id, "url": row.url, "target": row.id} for row in endpoints
    ]
    if deliveries:
        connection.execute(insert(WebhookDeliveryRow), deliveries)


def _batch_data(batch: Row[Any]) -> dict[str, Any]:
    return {
        "id": batch.id,
        "object": "batch",
        "status": batch.status,
        "endpoint": batch.endpoint,
        "input_file_id": batch.input_file_id,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "request_counts": {
            "total": batch.requests_total,
            "completed": batch.requests_completed,
            "failed": batch.requests_failed,
        },
        "created_at": rfc3339(batch.created_at),
        "metadata": batch.caller_metadata,
        "urls": {"self": f"{settings().public_url}/v1/batches/{batch.id}"},
    }


def _deliveries(rows: Sequence[Row[Any]], error: ErrorView | None) -> list[dict[str, Any]]:
    job = rows[0]
    event = _EVENT_OF[Status(job.status)]
    receivers = [
        {
            "endpoint_id": row.endpoint_id,
            "url": row.endpoint_url,
            "target": row.endpoint_id,
            "include_text": row.endpoint_include_text,
        }
        for row in rows
        if row.endpoint_id is not None and event in row.endpoint_events
    ]
    if job.webhook_url is not None and event in job.webhook_events:
        receivers.append(
            {
                "endpoint_id": None,
                "url": job.webhook_url,
                "target": _target(job.account_id, job.webhook_url),
                "include_text": job.webhook_include_text,
            }
        )
    if not receivers:
        return []
    told = {
        "account_id": job.account_id,
        "job_id": job.id,
        "event": event,
        "event_id": new_id("evt"),
        "data": _data(job, error),
        "origin": job.origin,
    }
    return [told | receiver | {"id": new_id("whd")} for receiver in receivers]


def _target(account_id: str, url: str) -> str:
    # One account's jobs may name a thousand addresses of one server: they count as one receiver.
    return f"{account_id} {urlsplit(url).netloc}"


def _data(job: Row[Any], error: ErrorView | None) -> dict[str, Any]:
    return {
        "id": job.id,
        "object": "job",
        "status": job.status,
        "version": job.version,
        "model": job.model,
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "progress": {
            "images_total": job.images_total,
            "images_done": job.images_done,
            "lines_done": job.lines_done,
        },
        "usage": {"lines": job.lines_charged, "credits": float(credits_of(job.charged_micro))},
        "metadata": job.caller_metadata,
        "error": {"code": error.code, "message": error.message[:_MESSAGE_CHARACTERS]} if error else None,
        "urls": {
            "self": f"{settings().public_url}/v1/jobs/{job.id}",
            "transcript": f"{settings().public_url}/v1/jobs/{job.id}/transcript",
        },
    }
