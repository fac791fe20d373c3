"""Wake-ups between processes over Redis pub/sub; never the truth, so that a lost notice only costs a short wait."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from redis import Redis
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from core.redis_address import client_url, redis_client, redis_patience
from core.settings import settings

#: Its words are jobs' ids, or what `going_on` makes of them.
JOB_CHANGED = "inkqueue:job-changed"
#: Its words say no more than that a courier may have something to send.
WEBHOOKS_DUE = "inkqueue:webhooks-due"
IMAGES_CANCELED = "inkqueue:images-canceled"
#: Says more than ids: see `core/live_text.py`.
TEXT_SETTLED = "inkqueue:text-settled"
_RECONNECT_S = 1.0
_LOOK_S = 1.0
#: After so long without a word a connection is asked for a sign of life; one that gives none for so long was lost.
_SIGN_AFTER_S = 5.0
_SILENT_S = 10.0
#: For what must come at once, such as the greeting.
_TIMEOUT_S = 5.0
_GOES_ON = "+"

_log = structlog.get_logger(__name__)


def notify(channel: str, words: Collection[str]) -> None:
    """Tell all who listen these words, such as the ids of what changed; without Redis this does nothing."""
    if not words:
        return
    with suppress(RedisError), redis_patience().asking():
        redis_client().publish(channel, " ".join(words))


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is to be told of jobs once the transaction that changed them is over."""

    words: Sequence[str] = ()
    #: Whether webhooks tell of any of it.
    webhooks: bool = True


def tell(changes: Changes) -> None:
    """Tell all who wait for jobs, and couriers if there is something to send; without Redis this does nothing."""
    notify(JOB_CHANGED, changes.words)
    if changes.words and changes.webhooks:
        notify(WEBHOOKS_DUE, ["due"])


def going_on(job_id: str) -> str:
    """The word of a job that has changed and not ended, so that whoever waits for its end need not look at it."""
    return job_id + _GOES_ON


class Listener:
    """One daemon thread that hears one channel and calls back with each word; it reconnects for ever."""

    def __init__(self, channel: str, heard: Callable[[str], None]) -> None:
        self._channel = channel
        self._heard = heard
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"listen {channel}", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, if it was begun; returns when the thread has ended, within seconds."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _listen(self) -> None:
        # A client of its own: the shared one gives up on a silent socket after a second.
        client = Redis.from_url(client_url(settings().redis_url), socket_connect_timeout=1, socket_timeout=_TIMEOUT_S)
        away = False
        while not self._stopped.is_set():
            try:
                with client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
                    pubsub.subscribe(self._channel)
                    if away:
                        _log.info("notices are heard again", channel=self._channel)
                    away = False
                    self._hear_all(pubsub)
            except RedisError as exc:
                if not away:
                    _log.warning("notices are not heard until Redis is back", channel=self._channel, error=str(exc))
                away = True
                self._stopped.wait(_RECONNECT_S)
        client.close()

    def _hear_all(self, pubsub: PubSub) -> None:
        """Hear until told to stop.

        Raises:
            RedisError: The connection is lost, or silent though it was asked for a sign: a network may drop one of
                which neither end is told, and Redis counts its listener still.
        """
        heard_at = time.monotonic()
        asked_at: float | None = None
        while not self._stopped.is_set():
            message = pubsub.get_message(timeout=_LOOK_S)
            now = time.monotonic()
            if message is not None:
                heard_at, asked_at = now, None
                if message["type"] == "message":
                    self._tell(message["data"].decode())
            elif asked_at is not None and now - asked_at > _SILENT_S:
                raise RedisConnectionError("a connection for notices has fallen silent")
            elif asked_at is None and now - heard_at > _SIGN_AFTER_S:
                asked_at = now
                pubsub.ping()

    def _tell(self, notice: str) -> None:
        for word in notice.split():
            try:
                self._heard(word)
            except Exception:
                # Outer edge of the thread: a word that cannot be dealt with must not make it deaf to the next.
                _log.exception("a notice was not dealt with", channel=self._channel, word=word)


class Wakeable(Protocol):
    """What is woken, such as an event."""

    def set(self) -> None:
        """Wake whoever waits for it."""


class Waiters:
    """Threads that wait for a change of a job; each is woken by the next notice about its job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Whom to wake of each job, and whether only by its end.
        self._sleepers: dict[str, list[tuple[Wakeable, bool]]] = defaultdict(list)

    @contextmanager
    def waiting_for(self, job_id: str, event: Wakeable, *, until_end: bool) -> Iterator[None]:
        """Set the event at each notice about this job while the block lasts, or only when the job may have ended."""
        sleeper = (event, until_end)
        with self._lock:
            self._sleepers[job_id].append(sleeper)
        try:
            yield
        finally:
            with self._lock:
                self._sleepers[job_id].remove(sleeper)
                if not self._sleepers[job_id]:
                    del self._sleepers[job_id]

    def wake(self, word: str) -> None:
        """Set the events of all who wait for what a word of a notice tells."""
        job_id, goes_on = word.removesuffix(_GOES_ON), word.endswith(_GOES_ON)
        with self._lock:
            for event, until_end in self._sleepers.get(job_id, ()):
                if not (goes_on and until_end):
                    event.set()

    def wake_all(self) -> None:
        """Set every event."""
        with self._lock:
            for sleepers in self._sleepers.values():
                for event, _ in sleepers:
                    event.set()
