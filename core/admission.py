"""Whether there is room for more: in the queue of a model, and in the storage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from sqlalchemy import Connection

from core.claims import count_ahead, oldest_waiting
from core.database import looking
from core.errors import QueueFull, RateLimited
from core.ids import made_at
from core.settings import settings
from core.states import Priority
from core.stored_bytes import count_for_account

#: A queue is looked at so often at most, by each process: the limits are far coarser than what changes meanwhile.
_LOOK_EVERY_S = 1.0
#: Who is refused for the queue's sake may look again after this time.
_RETRY_AFTER_S = 30


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How a queue was found."""

    at_s: float
    depth: int
    age_s: float


class QueueWatch:
    """What waits for each model, as of the last second.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._looks: dict[tuple[str, Priority], _Look] = {}

    def check(self, model: str, priority: Priority) -> None:
        """Judge whether a job of this urgency may join its queue; what is less urgent does not stand before it.

        Raises:
            QueueFull: Too many images wait, or the oldest of them for too long.
        """
        look = self._look(model, priority)
        limits = settings()
        if limits.max_queued_images and look.depth >= limits.max_queued_images:
            raise QueueFull(
                f"{look.depth} images or more wait for {model}; try again later", retry_after_s=_RETRY_AFTER_S
            )
        if limits.max_queue_age_s and look.age_s >= limits.max_queue_age_s:
            raise QueueFull(
                f"the oldest image has waited for {model} for {look.age_s:.0f} s; try again later",
                retry_after_s=_RETRY_AFTER_S,
            )

    def _look(self, model: str, priority: Priority) -> _Look:
        with self._lock:
            look = self._looks.get((model, priority))
            if look is not None and self._clock() - look.at_s < _LOOK_EVERY_S:
                return look
        with looking() as connection:
            depth = count_ahead(connection, model, priority, most=settings().max_queued_images)
            oldest = oldest_waiting(connection, model, priority)
        age_s = (datetime.now(UTC) - made_at(oldest)).total_seconds() if oldest else 0.0
        look = _Look(at_s=self._clock(), depth=depth, age_s=age_s)
        with self._lock:
            self._looks[model, priority] = look
        return look


@lru_cache(maxsize=1)
def queue_watch() -> QueueWatch:
    """The watch of this process."""
    return QueueWatch()


def take_storage(connection: Connection, account_id: str, stored_bytes: int, *, limited: bool = True) -> None:
    """Count bytes that an account stores; what the service writes for it is counted, and never refused.

    Raises:
        RateLimited: There is no room until it deletes something.
    """
    stored = count_for_account(connection, account_id, stored_bytes)
    check_stored("account", stored, limit=settings().max_stored_bytes if limited else 0)


def check_stored(whose: str, stored: int, *, limit: int) -> None:
    """Judge so many stored bytes; a limit of 0 is none.

    Raises:
        RateLimited: They are too many.
    """
    if limit and stored > limit:
        raise RateLimited(
            f"the {whose} would store {stored} bytes, and may {limit}: delete jobs and files that are done with",
            retry_after_s=_RETRY_AFTER_S,
        )
