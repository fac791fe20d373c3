"""Work that only one process of all does at a time; the others stand by, and one of them goes on when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from core.database import engine
from core.settings import settings

_log = structlog.get_logger(__name__)

_LOOK_S = 0.5
#: How often a holder shows that it lives, in parts of the time after which it is taken for dead.
_SIGNS_A_LEASE = 5


class Work(IntEnum):
    """What is done by one process at a time: any number, so long as all who do this work take the same."""

    #: A clerk's.
    BATCHES = 5_881_340_917
    #: A courier's: clearing away what is kept no longer.
    CLEANING = 2_617_905_443


@contextmanager
def alone(work: Work, stopped: threading.Event) -> Iterator[Callable[[], None]]:
    """Wait until nobody else does this work, and keep others from it while the block lasts.

    Who stands still for longer than a lease, as a frozen process does, loses it to the next.

    Args:
        work: What is to be done.
        stopped: Ends the wait, and then too the block is entered.

    Yields:
        A check that raises when the lock was lost, since the connection was that held it.
    """
    connection = engine().connect()
    held = _Lock(connection)
    try:
        held.end_with_silence(settings().lease_s)
        while not held.tried(work) and not stopped.wait(_LOOK_S):
            pass
        with held.kept(settings().lease_s / _SIGNS_A_LEASE):
            yield held.check
    finally:
        # Not back into the pool: the lock is the connection's.
        connection.invalidate()
        connection.close()


def keep_doing(
    work: Work, stopped: threading.Event, *, begin: Callable[[], Callable[[], bool]], pause_s: float
) -> None:
    """Do a work round by round until told to stop, while no other process does it.

    Args:
        work: What is to be done.
        stopped: Ends it after the present round.
        begin: Called when this process has the work to itself, and anew after whatever ended that; gives what does a
            round and says whether there is more to do at once.
        pause_s: Between rounds, where there is not.
    """
    while not stopped.is_set():
        try:
            with alone(work, stopped) as check:
                do_round = begin()
                while not stopped.is_set():
                    check()
                    if not do_round():
                        stopped.wait(pause_s)
        except Exception as exc:
            # The outer edge: Postgres may be away for a while, and nobody else does what is done here.
            _log.warning("a work begins anew", work=work.name.lower(), error=repr(exc))
            stopped.wait(pause_s)


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


class _Lock:
    """An advisory lock of a session, and with it the session; two threads use it by turns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()

    def end_with_silence(self, silence_s: float) -> None:
        """Have Postgres end the session when nothing is asked of it for so long."""
        self._ask(f"SET idle_session_timeout = {int(1000 * silence_s)}")

    def tried(self, work: Work) -> bool:
        """Whether the lock is held now."""
        with self._turn:
            locked = self._connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": work.value})
            got = bool(locked.scalar_one())
            self._connection.commit()
            return got

    def check(self) -> None:
        """Raise if the session, and with it the lock, was lost."""
        self._ask("SELECT 1")

    @contextmanager
    def kept(self, every_s: float) -> Iterator[None]:
        """Show Postgres from a thread that this process lives, while the block lasts."""
        over = threading.Event()
        thread = threading.Thread(target=self._show, args=(over, every_s), name="exclusive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _show(self, over: threading.Event, every_s: float) -> None:
        while not over.wait(every_s):
            try:
                self.check()
            except SQLAlchemyError:
                # Whoever holds the lock learns of it by the next check.
                return

    def _ask(self, statement: str) -> None:
        with self._turn:
            self._connection.execute(text(statement))
            self._connection.commit()
