"""One Redis address in the two spellings that its clients want."""

from __future__ import annotations

from functools import lru_cache

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.settings import settings

#: Redis carries only tickets and notices: nobody waits long for it.
_TIMEOUT_S = 1.0


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
