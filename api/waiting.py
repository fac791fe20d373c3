"""Requests that wait for a job, long polls and streams: each holds a thread and nothing else, no connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache

from api.places import Places, Room
from core.accounts import Caller
from core.database import looking
from core.job_views import job_version
from core.notices import JOB_CHANGED, Listener, Waiters, Wakeable
from core.settings import settings
from core.states import Status

#: A notice may be lost: who waits looks for itself at least so often.
RECHECK_S = 5.0
#: The share of a process's threads that may wait; the others stay free for requests that take no time.
_WAITING_SHARE = 0.75

#: Judges a job's version and state.
Done = Callable[[int, Status], bool]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """One request's ear for its job."""

    #: False where too many wait already: then it must answer at once.
    admitted: bool
    _changed: threading.Event
    _closing: threading.Event

    @property
    def over(self) -> bool:
        """Whether it must not wait any longer: it was not admitted, or the process ends."""
        return not self.admitted or self._closing.is_set()

    def pause(self, timeout_s: float) -> bool:
        """Wait for a notice, and never so long that a lost one would matter; whether one came."""
        changed = self._changed.wait(min(timeout_s, RECHECK_S))
        self._changed.clear()
        return changed


class JobWaits:
    """All waits of this process, woken by one listener."""

    def __init__(self) -> None:
        self._waiters = Waiters()
        self._listener = Listener(JOB_CHANGED, self._waiters.wake)
        self._places = Places(_room)
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin to hear of changes."""
        self._listener.start()

    def close(self) -> None:
        """Answer all who wait, now."""
        self._closing.set()
        self._waiters.wake_all()
        self._listener.stop()

    def wait(self, caller: Caller, job_id: str, *, timeout_s: float, done: Done | None = None) -> bool:
        """Return when the job has ended, or, where it is given, when `done` says so; at the latest after `timeout_s`.

        Returns:
            False where it answered at once because the account, or all of them together, have as many waits as they
            may.

        Raises:
            NotFound: The account has no such job.
            Gone: It was deleted.
        """
        deadline = time.monotonic() + timeout_s
        with self.watching(caller, job_id, until_end=done is None) as watch:
            while not (done or _is_terminal)(*_read(caller, job_id)):
                left_s = deadline - time.monotonic()
                if left_s <= 0 or watch.over:
                    break
                watch.pause(left_s)
            return watch.admitted

    @contextmanager
    def watching(self, caller: Caller, job_id: str, *, until_end: bool = False) -> Iterator[Watch]:
        """Hear of a job's changes, or of its end alone, while the block lasts; what is read within it misses none."""
        changed = threading.Event()
        waking = self._waiters.waiting_for(job_id, changed, until_end=until_end)
        with self._places.taken(caller.account_id) as admitted, waking:
            yield Watch(admitted=admitted, _changed=changed, _closing=self._closing)

    def waking(self, job_id: str, sleeper: Wakeable) -> AbstractContextManager[None]:
        """Wake somebody at each change of a job, and when the process ends, while the block lasts."""
        return self._waiters.waiting_for(job_id, sleeper, until_end=False)

    def has_room(self, caller: Caller) -> bool:
        """Whether one more request of the account would be admitted at this moment."""
        return self._places.are_free(caller.account_id)


def _room() -> Room:
    limits = settings()
    return Room(of_account=limits.max_waiting_per_account, in_all=limits.api_threads * _WAITING_SHARE)


def _is_terminal(_version: int, status: Status) -> bool:
    return status.terminal


def has_ended(caller: Caller, job_id: str) -> bool:
    """Whether a job has ended, as Postgres says now.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    return _is_terminal(*_read(caller, job_id))


def _read(caller: Caller, job_id: str) -> tuple[int, Status]:
    with looking() as connection:
        return job_version(connection, caller, job_id)


@lru_cache(maxsize=1)
def job_waits() -> JobWaits:
    """The waits of this process, heard from the first request on (a listener's thread would not survive a fork)."""
    waits = JobWaits()
    waits.start()
    return waits
