"""Whether there is room for one more job: in the queue of its model, among its account's jobs, in the storage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from sqlalchemy import Connection, Integer, bindparam, func, select, text

from core.accounts import Caller
from core.claims import count_ahead, oldest_waiting
from core.database import looking
from core.errors import QueueFull, RateLimited
from core.ids import made_at
from core.job_tables import JobRow
from core.settings import settings
from core.states import Priority
from core.stored_bytes import count_for_account, stored_now

#: A queue is looked at so often at most, by each process: the limits are far coarser than what changes meanwhile.
_LOOK_EVERY_S = 1.0
#: Who is refused for the queue's sake may look again after this time.
_RETRY_AFTER_S = 30
#: Who has too many jobs in flight waits for one of them to end.
_RETRY_SOON_S = 5


# Statements that run with every job are made once: making one costs about as much as sending it.
_IN_FLIGHT = (
    select(JobRow.id)
    .where(JobRow.account_id == bindparam("account"), text("status IN ('queued', 'running')"))
    .limit(bindparam("most", type_=Integer))
)
_COUNT_OF_ACCOUNT = select(func.count()).select_from(_IN_FLIGHT.subquery())
_COUNT_OF_KEY = select(func.count()).select_from(_IN_FLIGHT.where(JobRow.key_id == bindparam("key")).subquery())


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


def check_room(connection: Connection, caller: Caller) -> None:
    """Judge without a lock whether there is room for any job at all, before its images are fetched.

    Raises:
        RateLimited: There is none until a job ends or is deleted.
    """
    limits = (
        ("account", settings().max_jobs_in_flight, _COUNT_OF_ACCOUNT),
        ("key", caller.limits.get("jobs_in_flight", 0), _COUNT_OF_KEY),
    )
    for whose, limit, counted in limits:
        asked = {"account": caller.account_id, "key": caller.key_id, "most": limit}
        check_in_flight(whose, connection.execute(counted, asked).scalar_one() + 1, limit=limit)
    of_account, of_key = stored_now(connection, caller.account_id, caller.key_id)
    check_stored("account", of_account + 1, limit=settings().max_stored_bytes)
    check_stored("key", of_key + 1, limit=caller.limits.get("stored_bytes", 0))


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


def check_in_flight(whose: str, jobs: int, *, limit: int) -> None:
    """Judge so many jobs in flight; a limit of 0 is none.

    Raises:
        RateLimited: They are too many.
    """
    if limit and jobs > limit:
        raise RateLimited(
            f"the {whose} may have {limit} jobs in flight; wait for one to end", retry_after_s=_RETRY_SOON_S
        )
