"""The tickets of a worker: which are being served, and whether those that wait in Redis ought to have come here."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from core import queue
from core.settings import settings
from worker.pumps import MAX_CALLERS


class Tickets:
    """Tickets of all models of one worker; any thread uses it, but `unheard` is for one.

    Args:
        models: The names that jobs ask for.
    """

    def __init__(self, models: Collection[str]) -> None:
        self._models = models
        self._stopped = False
        #: Guards the two below.
        self._lock = threading.Lock()
        self._served: Counter[str] = Counter()
        #: Since when tickets of a model have waited at each look, and none has come; monotonic clock, seconds.
        self._unheard_since: dict[str, float] = {}

    @property
    def threads(self) -> int:
        """How many are served at once."""
        return MAX_CALLERS * len(self._models)

    @contextmanager
    def serving(self, model: str) -> Iterator[None]:
        """A ticket has come, and takes a thread until the block ends."""
        with self._lock:
            self._served[model] += 1
            self._unheard_since.pop(model, None)
        try:
            yield
        finally:
            with self._lock:
                self._served[model] -= 1

    def stop(self) -> None:
        """The worker takes no more tickets, and is not deaf for that."""
        self._stopped = True

    def unheard(self) -> list[str]:
        """Models of which tickets wait, and none has come for the whole stall time though it could have been served.

        A Celery worker may stop consuming after Redis was away (celery#10302): only a new process helps.
        """
        now = time.monotonic()
        waiting = self._waiting()
        with self._lock:
            # A worker that hears takes a waiting ticket of each model in turn as soon as a thread is free. Each model
            # is judged by itself: that another is served says nothing, since its ticket may have come hours ago. One
            # that is served may have tickets waiting at every look; each is soon told off. And all threads may be taken
            # for long: surplus tickets look for interactive images, which may be slow to fetch and to decode.
            is_full = self._served.total() >= self.threads
            unheard = [] if is_full else [model for model in waiting if not self._served[model]]
            self._unheard_since = {model: self._unheard_since.get(model, now) for model in unheard}
            return [model for model, since in self._unheard_since.items() if now - since > settings().stall_s]

    def _waiting(self) -> list[str]:
        try:
            return [] if self._stopped else [model for model in self._models if queue.takable_tickets(model)]
        except RedisError:
            return []
