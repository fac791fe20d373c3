"""How often: requests and lines a minute, of the account and of the key."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flask import Flask, Response, g
from prometheus_client import Counter
from redis.exceptions import RedisError

from api.rate_counters import WINDOW_S, Cost, Judgement, Limit, count
from core.accounts import Caller
from core.errors import RateLimited
from core.settings import settings

_UNJUDGED = Counter("inkqueue_rate_limits_unjudged", "Requests that passed unjudged because Redis was away or slow.")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How much of a limit is left."""

    #: `requests` or `lines`.
    unit: str
    #: `account` or `key`.
    owner: str
    limit: int
    remaining: int
    #: Until the present minute's count ends, or, for what was refused, until it passes.
    reset_s: int


def count_request(caller: Caller) -> None:
    """Count the present request.

    Raises:
        RateLimited: The account or the key has sent too many.
    """
    _count(caller, "requests", 1)


def count_lines(caller: Caller, lines: int) -> None:
    """Count the lines of the present submission.

    Raises:
        RateLimited: The account or the key has sent too many.
    """
    _count(caller, "lines", lines)


def _count(caller: Caller, unit: str, amount: int) -> None:
    limits = _limits(caller, unit)
    if not limits:
        return
    try:
        judgement = count(Cost(amount=amount, limits=limits))
    except RedisError:
        _UNJUDGED.inc()
        return
    standing = _standing(unit, amount, judgement)
    g.setdefault("standings", []).append(standing)
    if not judgement.passed:
        hint = "send fewer at once" if amount > standing.limit else f"try again in {standing.reset_s} s"
        raise RateLimited(
            f"this {standing.owner} may send {standing.limit} {unit} a minute; {hint}", retry_after_s=standing.reset_s
        )


def _standing(unit: str, amount: int, judgement: Judgement) -> Standing:
    """Of the limit with the least left; or of the one that refuses, and for the longest."""
    if judgement.passed:
        telling = min(judgement.counts, key=lambda each: each.remaining)
        reset_ms = telling.left_ms
    else:
        never = [each for each in judgement.counts if amount > each.limit.most]
        telling = (
            min(never, key=lambda each: each.limit.most)
            if never
            else max(judgement.counts, key=lambda each: each.wait_ms(amount))
        )
        reset_ms = telling.wait_ms(amount)
    return Standing(
        unit=unit,
        owner=telling.limit.owner,
        limit=telling.limit.most,
        remaining=telling.remaining,
        reset_s=max(1, math.ceil(reset_ms / 1000)),
    )


def _limits(caller: Caller, unit: str) -> list[Limit]:
    of_account = settings().requests_per_minute if unit == "requests" else settings().lines_per_minute
    of_key = caller.limits.get(f"{unit}_per_minute", 0)
    return [
        Limit(owner=owner, name=f"{unit}:{owner_id}", most=most)
        for owner, owner_id, most in (("key", caller.key_id, of_key), ("account", caller.account_id, of_account))
        if most
    ]


def register_rate_limit_headers(app: Flask) -> None:
    """Say on every answer of the application how much is left."""
    app.after_request(_say)


def _say(response: Response) -> Response:
    """Write the headers of draft-ietf-httpapi-ratelimit-headers, and those of OpenAI with our units."""
    standings: list[Standing] = g.get("standings", [])
    if standings:
        response.headers["RateLimit-Policy"] = ", ".join(f'"{s.unit}";q={s.limit};w={WINDOW_S}' for s in standings)
        response.headers["RateLimit"] = ", ".join(f'"{s.unit}";r={s.remaining};t={s.reset_s}' for s in standings)
    for standing in standings:
        response.headers[f"x-ratelimit-limit-{standing.unit}"] = str(standing.limit)
        response.headers[f"x-ratelimit-remaining-{standing.unit}"] = str(standing.remaining)
        response.headers[f"x-ratelimit-reset-{standing.unit}"] = f"{standing.reset_s}s"
    return response
