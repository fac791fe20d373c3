"""What tests of webhooks say: a job that ended, an endpoint, what became of its deliveries, a courier at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from core import outcomes
from core.accounts import Caller
from core.claims import claim
from core.database import transaction
from core.webhook_deliveries import Delivery, DeliveryFilter, list_deliveries
from core.webhook_endpoints import NewEndpoint, create_endpoint
from core.webhook_events import EventType
from core.webhooks import JOB_EVENTS, JobWebhook
from tests.domain import MODEL, read, submit_lines
from tests.receiver import Receiver
from worker.delivery import Deliverer


def ended_job(caller: Caller, webhook: JobWebhook | None = None, *, lines: int = 1) -> str:
    job_id = submit_lines(caller, lines, webhook=webhook)
    outcomes.finish([read(found) for found in claim("wrk_1", MODEL, most=lines)])
    return job_id


def endpoint(
    caller: Caller, receiver: Receiver, *, events: Sequence[EventType] = JOB_EVENTS, include_text: bool = False
) -> tuple[str, str]:
    """An endpoint of the account; its id and its secret."""
    with transaction() as connection:
        new = NewEndpoint(url=receiver.url, events=events, include_text=include_text)
        made, secret = create_endpoint(connection, caller, new)
    return made.id, secret


def deliveries(caller: Caller, status: str | None = None) -> list[Delivery]:
    with transaction() as connection:
        return list_deliveries(connection, caller, DeliveryFilter(status=status), before=None, most=100)[::-1]


def statuses(caller: Caller) -> list[tuple[str, str]]:
    return [(delivery.event, delivery.status.value) for delivery in deliveries(caller)]


@contextmanager
def delivering() -> Iterator[None]:
    """A courier's deliveries while the block lasts."""
    deliverer = Deliverer()
    deliverer.start()
    try:
        yield
    finally:
        deliverer.close(5)
