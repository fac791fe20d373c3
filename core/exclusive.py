"""Work that only one process of all does at a time; the others stand by, and one of them goes on when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from core.database import engine

_LOOK_S = 0.5


@contextmanager
def alone(lock: int, stopped: threading.Event) -> Iterator[Callable[[], None]]:
    """Wait until nobody else holds a lock, and hold it while the block lasts; also when `stopped` ends the wait.

    Args:
        lock: Any number, so long as all who do this work take the same.
        stopped: Ends the wait.

    Yields:
        A check that raises when the lock was lost, since the connection was that held it.
    """
    connection = engine().connect()
    try:
        while not _locked(connection, lock) and not stopped.wait(_LOOK_S):
            pass
        yield lambda: _check(connection)
    finally:
        # Not back into the pool: the lock is the connection's.
        connection.invalidate()
        connection.close()


def _locked(connection: Connection, lock: int) -> bool:
    locked = connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": lock}).scalar_one()
    connection.commit()
    return bool(locked)


def _check(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
    connection.commit()
