"""Clears away what is kept no longer: old jobs, files that nothing refers to, keys and logs whose time is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from core import files, idempotency, job_files, notices, retention, webhook_deliveries
from core.database import transaction
from core.errors import Unavailable
from core.settings import settings
from core.webhook_schedule import overdue_after

#: To see that no batch is kept too long takes longer than the other looks.
_BATCHES_EVERY_S = 60.0
_ORPHANS_EVERY_S = 3600.0

_log = structlog.get_logger(__name__)


class Cleaner:
    """The rounds of whoever clears away; a bucket may make them long, and nobody waits for them.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = self._batches_due_s = self._orphans_due_s = clock()
        self._newest_first = False

    def clean(self) -> bool:
        """One round, in which each duty does its part though another fails; whether more may be left to do."""
        duties = [
            _delete_old_jobs,
            self._purge_deleted_jobs,
            _expire_files,
            _forget_idempotency_keys,
            self._give_up_overdue_webhooks,
            _shorten_webhook_log,
        ]
        if self._clock() >= self._batches_due_s:
            duties.append(self._forget_old_batches)
        if self._clock() >= self._orphans_due_s:
            self._orphans_due_s = self._clock() + _ORPHANS_EVERY_S
            duties += [_delete_orphaned_files, _delete_orphaned_images]
        return any([_does_something(duty) for duty in duties])

    def _purge_deleted_jobs(self) -> bool:
        # By turns from either end: many whose files cannot be deleted must not keep all others from being looked at.
        self._newest_first = not self._newest_first
        with transaction() as connection:
            unpurged = job_files.unpurged(connection, newest_first=self._newest_first)
        if unpurged:
            job_files.purge(unpurged)
        return bool(unpurged)

    def _give_up_overdue_webhooks(self) -> bool:
        # What came due while no courier ran has had no chance yet.
        overdue_after_s = overdue_after(settings().webhook_schedule_scale).total_seconds()
        if self._clock() - self._began_s < overdue_after_s:
            return False
        with transaction() as connection:
            given_up = webhook_deliveries.give_up_overdue(connection)
        if given_up:
            _log.warning("webhooks were given up: their receivers take fewer than come", webhooks=given_up)
        return given_up > 0

    def _forget_old_batches(self) -> bool:
        self._batches_due_s = self._clock() + _BATCHES_EVERY_S
        with transaction() as connection:
            more = retention.forget_batches_kept_too_long(connection)
        if more:
            self._batches_due_s = self._clock()
        return more


def _does_something(duty: Callable[[], bool]) -> bool:
    try:
        return duty()
    except Unavailable as exc:
        _log.warning("what is kept no longer stays a while", duty=duty.__name__.strip("_"), error=exc.message)
    except Exception:
        # The edge of each duty: a defect of one must not keep the others from theirs.
        _log.exception("what is kept no longer stays a while", duty=duty.__name__.strip("_"))
    return False


def _delete_old_jobs() -> bool:
    with transaction() as connection:
        deleted = retention.delete_kept_too_long(connection)
    notices.tell(notices.Changes(words=deleted, webhooks=False))
    return bool(deleted)


def _expire_files() -> bool:
    with transaction() as connection:
        expired = files.expire(connection)
    files.delete_bytes(expired)
    return bool(expired)


def _forget_idempotency_keys() -> bool:
    with transaction() as connection:
        idempotency.forget_old(connection)
    return False


def _shorten_webhook_log() -> bool:
    with transaction() as connection:
        return webhook_deliveries.delete_old(connection) > 0


def _delete_orphaned_files() -> bool:
    for file_id in files.delete_orphans():
        _log.info("a file that belongs to nobody was deleted", file_id=file_id)
    return False


def _delete_orphaned_images() -> bool:
    for job_id in job_files.delete_orphans():
        _log.info("files of a job that was never submitted were deleted", job_id=job_id)
    return False
