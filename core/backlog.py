"""What waits, for those who watch the service: images for each model, and webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from core import webhook_deliveries
from core.claims import oldest_waiting, waiting_images
from core.database import transaction
from core.ids import made_at
from core.leases import workers_by_model
from core.states import Priority

#: Counting more would cost more than it tells.
_MOST_IMAGES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The images that wait for one model."""

    model: str
    #: Up to a million.
    images: int
    #: How long the oldest has waited since its submission, seconds; 0 when none waits.
    oldest_s: float
    #: Living ones that serve it.
    workers: int


def backlogs() -> list[Backlog]:
    """The backlog of every model that is served or waited for, by name.

    Raises:
        Unavailable: Postgres cannot be reached.
    """
    with transaction() as connection:
        waiting = waiting_images(connection, most=_MOST_IMAGES)
        oldest = {model: oldest_waiting(connection, model, Priority.BULK) for model in waiting}
        workers = workers_by_model(connection)
    return [
        Backlog(model=model, images=waiting.get(model, 0), oldest_s=_age_s(oldest.get(model)), workers=workers[model])
        for model in sorted(workers.keys() | waiting.keys())
    ]


def webhooks_due() -> int:
    """Webhooks whose time has come and that no courier is sending.

    Raises:
        Unavailable: Postgres cannot be reached.
    """
    with transaction() as connection:
        return webhook_deliveries.count_due(connection)


def _age_s(image_id: str | None) -> float:
    # a clock that goes behind the submitter's must not make it negative
    return max(0.0, (datetime.now(UTC) - made_at(image_id)).total_seconds()) if image_id else 0.0
