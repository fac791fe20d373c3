"""Sets right what was cut short, and what time brings: dead workers' images, missing tickets, deadlines, grants."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from prometheus_client import Counter
from sqlalchemy import Connection, text

from core import credits, deadlines, grants, leases, notices, queue, stale_holds
from core.claims import waiting_images
from core.database import transaction

#: Any number does, so long as all sweepers take the same.
_ADVISORY_LOCK = 7_203_114_588
#: Accounts whose grants begin or end in one round; the next round takes the others.
_ACCOUNTS_A_ROUND = 100
_HOLDS_EVERY_S = 60.0

_STALE_HOLDS = Counter("inkqueue_stale_holds", "Holds without a live job that were released; each is a defect.")

_log = structlog.get_logger(__name__)


class Sweeper:
    """The rounds of one courier; of several couriers, one at a time does each round's work in the database.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holds_due_s = clock()

    def sweep(self) -> None:
        """One round.

        Raises:
            Unavailable: Postgres cannot be reached.
        """
        with transaction() as connection:
            if not _alone(connection):
                return
            leases.note_sweep(connection)
            changes = leases.expire_dead(connection)
            waiting = waiting_images(connection, most=queue.SLICE_IMAGES * queue.MAX_CALLED)
            workers = leases.workers_by_model(connection) if waiting else {}
        notices.tell(changes)
        _expire_jobs()
        for model, images in waiting.items():
            # One for each worker at most, which calls company itself: those that are at work tell others off.
            queue.send_tickets(model, at_most=min(queue.slices_of(images), workers.get(model, 1)))
        _settle_grants()
        if self._clock() >= self._holds_due_s:
            self._holds_due_s = self._clock() + _HOLDS_EVERY_S
            _release_stale_holds()


def _expire_jobs() -> None:
    # What dead workers' images cost has locked accounts already, and here they are locked from the first on again.
    with transaction() as connection:
        expired = deadlines.expire_due(connection)
    notices.tell(notices.Changes(words=expired))


def _settle_grants() -> None:
    # An account at a time: its lock is held for as short as a submission holds it.
    with transaction() as connection:
        due = grants.accounts_with_due(connection, most=_ACCOUNTS_A_ROUND)
    for account_id in due:
        with transaction() as connection:
            credits.settle(connection, account_id)


def _release_stale_holds() -> None:
    for hold in stale_holds.release_all():
        _STALE_HOLDS.inc()
        _log.error(
            "a hold that nobody would settle was released",
            account=hold.account_id,
            job_id=hold.job_id,
            micro_credits=hold.amount_micro,
        )


def _alone(connection: Connection) -> bool:
    lock = text("SELECT pg_try_advisory_xact_lock(:lock)")
    return bool(connection.execute(lock, {"lock": _ADVISORY_LOCK}).scalar_one())
