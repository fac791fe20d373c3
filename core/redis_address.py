"""One Redis address in the two spellings that its clients want, and patience with a Redis that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import structlog
from kombu.exceptions import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from core.settings import settings

#: Redis carries nothing that is not made up for: nobody waits long for it.
_TIMEOUT_S = 1.0
#: After it failed to answer it is left alone for so long, so that those who come do not wait for it one by one.
_LEFT_ALONE_S = 1.0

_log = structlog.get_logger(__name__)


def client_url(redis_url: str) -> str:
    """The address as redis-py spells it: Celery's `redis+socket:///path?virtual_host=0` becomes `unix:///path?db=0`."""
    if not redis_url.startswith("redis+socket://"):
        return redis_url
    return redis_url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)


@lru_cache(maxsize=1)
def redis_client() -> Redis:
    """The client of this process; thread-safe, connects when first used."""
    return Redis.from_url(
        client_url(settings().redis_url),
        socket_connect_timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), retries=0),
    )


class Patience:
    """What this process knows of Redis: whether it failed to answer a moment ago.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: Whether it failed to answer whoever asked last.
        self._is_away = False
        self._left_alone_until_s = 0.0

    @property
    def is_exhausted(self) -> bool:
        """Whether it would not be asked now: it failed to answer a moment ago, or is being tried by somebody."""
        with self._lock:
            return self._clock() < self._left_alone_until_s

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Use Redis in the block, by redis-py or by kombu.

        Raises:
            RedisError: It failed to answer, in the block or a moment ago; then the block is not run.
        """
        self._have_turn()
        try:
            yield
        except (RedisError, OperationalError, OSError) as exc:
            self._note(away=True)
            _log.warning("Redis is away: no tickets, no notices, no rate limits until it answers", error=str(exc))
            raise RedisConnectionError("Redis did not answer") from exc
        if self._is_away:
            self._note(away=False)

    def _have_turn(self) -> None:
        with self._lock:
            if self._clock() < self._left_alone_until_s:
                raise RedisConnectionError("Redis did not answer a moment ago")
            if self._is_away:
                # This one asks for all who come meanwhile.
                self._left_alone_until_s = self._clock() + _LEFT_ALONE_S

    def _note(self, *, away: bool) -> None:
        with self._lock:
            self._is_away = away
            self._left_alone_until_s = self._clock() + _LEFT_ALONE_S if away else 0.0


@lru_cache(maxsize=1)
def redis_patience() -> Patience:
    """The patience of this process."""
    return Patience()
