"""Long polls: a request that waits for a job holds a thread and nothing else, no connection and no transaction."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from core.accounts import Caller
from core.database import transaction
from core.job_views import job_version
from core.notices import JOB_CHANGED, Listener, Waiters
from core.settings import settings
from core.states import Status

#: A notice may be lost: who waits looks for itself at least so often.
_RECHECK_S = 5.0
#: The share of a process's threads that may wait; the others stay free for requests that take no time.
_WAITING_SHARE = 0.75

Done = Callable[[int, Status], bool]


class JobWaits:
    """All waits of this process, woken by one listener."""

    def __init__(self) -> None:
        self._waiters = Waiters()
        self._listener = Listener(JOB_CHANGED, self._waiters.wake)
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin to hear of changes."""
        self._listener.start()

    def close(self) -> None:
        """Answer all who wait, now."""
        self._closing.set()
        self._waiters.wake_all()
        self._listener.stop()

    def wait(self, caller: Caller, job_id: str, *, timeout_s: float, done: Done) -> None:
        """Return when `done` says so of the job's version and state, at the latest after `timeout_s`.

        It returns at once where the account, or all of them together, have as many waits as they may.

        Raises:
            NotFound: The account has no such job.
            Gone: It was deleted.
        """
        deadline = time.monotonic() + timeout_s
        # Heard before it is read: a change between the two is not missed.
        with self._admitted(caller) as admitted, self._waiters.waiting_for(job_id) as changed:
            while not done(*_read(caller, job_id)):
                left_s = deadline - time.monotonic()
                if not admitted or left_s <= 0 or self._closing.is_set():
                    return
                changed.wait(min(left_s, _RECHECK_S))
                changed.clear()

    @contextmanager
    def _admitted(self, caller: Caller) -> Iterator[bool]:
        with self._lock:
            admitted = (
                self._waiting[caller.account_id] < settings().max_waiting_per_account
                and self._waiting.total() < settings().api_threads * _WAITING_SHARE
            )
            self._waiting[caller.account_id] += admitted
        try:
            yield admitted
        finally:
            with self._lock:
                self._waiting[caller.account_id] -= admitted
                self._waiting += Counter()  # forgets accounts that wait for nothing


def _read(caller: Caller, job_id: str) -> tuple[int, Status]:
    with transaction() as connection:
        return job_version(connection, caller, job_id)


@lru_cache(maxsize=1)
def job_waits() -> JobWaits:
    """The waits of this process, heard from the first request on (a listener's thread would not survive a fork)."""
    waits = JobWaits()
    waits.start()
    return waits
