"""Work that only one process of all does at a time; the others stand by, and one of them goes on when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from sqlalchemy import Connection, text

from core.database import engine

_LOOK_S = 0.5


class Work(IntEnum):
    """What is done by one process at a time: any number, so long as all who do this work take the same."""

    #: A clerk's.
    BATCHES = 5_881_340_917


@contextmanager
def alone(work: Work, stopped: threading.Event) -> Iterator[Callable[[], None]]:
    """Wait until nobody else does this work, and keep others from it while the block lasts.

    Args:
        work: What is to be done.
        stopped: Ends the wait, and then too the block is entered.

    Yields:
        A check that raises when the lock was lost, since the connection was that held it.
    """
    connection = engine().connect()
    try:
        while not _locked(connection, work) and not stopped.wait(_LOOK_S):
            pass
        yield lambda: _check(connection)
    finally:
        # Not back into the pool: the lock is the connection's.
        connection.invalidate()
        connection.close()


def is_done(connection: Connection, work: Work) -> bool:
    """Whether a process does this work: its lock goes with its connection, so that none is held by the dead."""
    # How Postgres shows a lock of 64 bits: in two halves, and with a 1.
    held = text(
        """
        SELECT EXISTS (
            SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND classid = CAST(:high AS oid) AND objid = CAST(:low AS oid))
        """
    )
    high, low = divmod(work, 2**32)
    return bool(connection.execute(held, {"high": high, "low": low}).scalar_one())


def _locked(connection: Connection, work: Work) -> bool:
    locked = connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": work.value}).scalar_one()
    connection.commit()
    return bool(locked)


def _check(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
    connection.commit()
