"""How often: requests and lines a minute, of the account and of the key, counted in Redis over a sliding window.

Of Flask-Limiter only the engine is used, `limits`: who calls is known after the key was looked up, and how many lines
a request costs after its body was read, while the extension judges a request before either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from flask import Flask, Response, g
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import Counter
from redis.exceptions import RedisError

from core.accounts import Caller
from core.errors import RateLimited
from core.redis_address import client_url, redis_client, redis_patience
from core.settings import settings

_WINDOW_S = 60

_UNJUDGED = Counter("inkqueue_rate_limits_unjudged", "Requests that passed unjudged because Redis was away.")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How much of a limit is left."""

    #: `requests` or `lines`.
    unit: str
    limit: int
    remaining: int
    reset_s: int


class _Limiter:
    """The counters of this process, in the Redis of all."""

    def __init__(self) -> None:
        storage = RedisStorage(
            client_url(settings().redis_url),
            connection_pool=redis_client().connection_pool,
            key_prefix="inkqueue:limits",
        )
        self._strategy = SlidingWindowCounterRateLimiter(storage)

    def take(self, caller: Caller, unit: str, cost: int) -> Standing | None:
        """Count a cost against the caller's limits; the tightest of them, or None where there is none or no Redis.

        Raises:
            RateLimited: A limit is used up.
        """
        try:
            with redis_patience().asking():
                standings = [self._take(unit, limit, whose, cost) for limit, whose in _limits(caller, unit)]
        except RedisError:
            _UNJUDGED.inc()
            return None
        return min(standings, key=lambda standing: standing.remaining, default=None)

    def _take(self, unit: str, limit: int, whose: str, cost: int) -> Standing:
        item = RateLimitItemPerMinute(limit)
        passed = self._strategy.hit(item, unit, whose, cost=cost)
        stats = self._strategy.get_window_stats(item, unit, whose)
        reset_s = max(1, round(stats.reset_time - time.time()))
        standing = Standing(unit=unit, limit=limit, remaining=stats.remaining, reset_s=min(reset_s, _WINDOW_S))
        if not passed:
            _note(standing)
            owner = "account" if whose.startswith("acc_") else "key"
            hint = "send fewer at once" if cost > limit else f"try again in {standing.reset_s} s"
            raise RateLimited(f"this {owner} may send {limit} {unit} a minute; {hint}", retry_after_s=standing.reset_s)
        return standing


def _limits(caller: Caller, unit: str) -> Iterator[tuple[int, str]]:
    of_account = settings().requests_per_minute if unit == "requests" else settings().lines_per_minute
    of_key = caller.limits.get(f"{unit}_per_minute", 0)
    for limit, whose in ((of_key, caller.key_id), (of_account, caller.account_id)):
        if limit:
            yield limit, whose


@lru_cache(maxsize=1)
def limiter() -> _Limiter:
    """The limiter of this process."""
    return _Limiter()


def count_request(caller: Caller) -> None:
    """Count the present request.

    Raises:
        RateLimited: The account or the key has sent too many.
    """
    _note(limiter().take(caller, "requests", 1))


def count_lines(caller: Caller, lines: int) -> None:
    """Count the lines of the present submission.

    Raises:
        RateLimited: The account or the key has sent too many.
    """
    _note(limiter().take(caller, "lines", lines))


def register_rate_limit_headers(app: Flask) -> None:
    """Say on every answer of the application how much is left."""
    app.after_request(_say)


def _note(standing: Standing | None) -> None:
    if standing is not None:
        g.setdefault("standings", []).append(standing)


def _say(response: Response) -> Response:
    """Write the headers of draft-ietf-httpapi-ratelimit-headers, and those of OpenAI with our units."""
    standings: list[Standing] = g.get("standings", [])
    if standings:
        response.headers["RateLimit-Policy"] = ", ".join(f'"{s.unit}";q={s.limit};w={_WINDOW_S}' for s in standings)
        response.headers["RateLimit"] = ", ".join(f'"{s.unit}";r={s.remaining};t={s.reset_s}' for s in standings)
    for standing in standings:
        response.headers[f"x-ratelimit-limit-{standing.unit}"] = str(standing.limit)
        response.headers[f"x-ratelimit-remaining-{standing.unit}"] = str(standing.remaining)
        response.headers[f"x-ratelimit-reset-{standing.unit}"] = f"{standing.reset_s}s"
    return response
