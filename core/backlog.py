"""What waits for each model, for those who watch the service."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from core.claims import oldest_waiting, waiting_images
from core.database import transaction
from core.ids import made_at
from core.leases import served_models
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


def backlogs() -> list[Backlog]:
    """The backlog of every model that is served or waited for, by name.

    Raises:
        Unavailable: Postgres cannot be reached.
    """
    with transaction() as connection:
        waiting = waiting_images(connection, most=_MOST_IMAGES)
        oldest = {model: oldest_waiting(connection, model, Priority.BULK) for model in waiting}
        served = {model["name"] for model in served_models(connection)}
    return [
        Backlog(model=model, images=waiting.get(model, 0), oldest_s=_age_s(oldest.get(model)))
        for model in sorted(served | waiting.keys())
    ]


def _age_s(image_id: str | None) -> float:
    # a clock that goes behind the submitter's must not make it negative
    return max(0.0, (datetime.now(UTC) - made_at(image_id)).total_seconds()) if image_id else 0.0
