"""Sets right what was cut short: dead workers' images, missing tickets, files that nothing refers to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Connection, text

from core import deadlines, job_files, leases, notices, queue, retention, webhook_deliveries
from core.claims import waiting_images
from core.database import transaction

#: Any number does, so long as all sweepers take the same.
_ADVISORY_LOCK = 7_203_114_588
_ORPHANS_EVERY = timedelta(hours=1)

_log = structlog.get_logger(__name__)


class Sweeper:
    """The rounds of one courier; of several couriers, one at a time does each round's work in the database."""

    def __init__(self) -> None:
        self._orphans_due = datetime.now(UTC)

    def sweep(self) -> None:
        """One round.

        Raises:
            Unavailable: Postgres cannot be reached.
        """
        with transaction() as connection:
            if not _alone(connection):
                return
            leases.note_sweep(connection)
            changed = leases.expire_dead(connection)
            changed += deadlines.expire_due(connection)
            changed += retention.delete_kept_too_long(connection)
            waiting = waiting_images(connection, most=queue.SLICE_IMAGES * queue.MAX_WAITING_TICKETS)
            unpurged = job_files.unpurged(connection)
        notices.notify(notices.JOB_CHANGED, changed)
        _top_up_tickets(waiting)
        for job_id in unpurged:
            job_files.purge(job_id)
        if datetime.now(UTC) >= self._orphans_due:
            self._orphans_due = datetime.now(UTC) + _ORPHANS_EVERY
            with transaction() as connection:
                webhook_deliveries.delete_old(connection)
            for job_id in job_files.delete_orphans():
                _log.info("files of a job that was never submitted were deleted", job_id=job_id)


def _alone(connection: Connection) -> bool:
    lock = text("SELECT pg_try_advisory_xact_lock(:lock)")
    return bool(connection.execute(lock, {"lock": _ADVISORY_LOCK}).scalar_one())


def _top_up_tickets(waiting: dict[str, int]) -> None:
    for model, images in waiting.items():
        try:
            missing = queue.tickets_for(images) - queue.waiting_tickets(model)
        except RedisError as exc:
            _log.warning("tickets are not topped up: Redis is away", error=str(exc))
            return
        if missing > 0:
            queue.ring(model, tickets=missing)
