"""Counters over a sliding minute, in the Redis that all processes share: judged and counted in one trip.

Source of the method: https://blog.cloudflare.com/counting-things-a-lot-of-different-things/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.redis_address import redis_client

WINDOW_S = 60
_WINDOW_MS = 1000 * WINDOW_S
_PREFIX = "inkqueue:counter:"
#: Each key is a counter: when its window began by Redis's clock, what was counted in it, and in the one before.
_COUNT = """
local window_ms, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local passes, counts = 1, {}
for i, key in ipairs(KEYS) do
    local kept = redis.call('HMGET', key, 'began_ms', 'current', 'previous')
    local began_ms, current, previous = tonumber(kept[1]) or 0, tonumber(kept[2]), tonumber(kept[3])
    local age_ms = now_ms - began_ms
    if age_ms < 0 or age_ms >= 2 * window_ms then
        began_ms, current, previous = now_ms, 0, 0
    elseif age_ms >= window_ms then
        began_ms, current, previous = began_ms + window_ms, 0, current
    end
    local left_ms = began_ms + window_ms - now_ms
    if math.floor(previous * left_ms / window_ms) + current + cost > tonumber(ARGV[2 + i]) then
        passes = 0
    end
    counts[i] = {current, previous, left_ms, began_ms}
end
for i, key in ipairs(passes == 1 and KEYS or {}) do
    local count = counts[i]
    count[1] = count[1] + cost
    redis.call('HSET', key, 'began_ms', count[4], 'current', count[1], 'previous', count[2])
    redis.call('PEXPIRE', key, 2 * window_ms)
end
return {passes, counts}
"""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much may be counted under a name within a minute."""

    name: str
    most: int


@dataclass(frozen=True, kw_only=True)
class Count:
    """Where a counter stands. The window before counts by the share of it that lies within the last minute."""

    limit: Limit
    #: Counted in the present window, and in the one before.
    current: int
    previous: int
    #: Until the present window ends, milliseconds.
    left_ms: int

    @property
    def remaining(self) -> int:
        """How much passes now."""
        return max(0, self.limit.most - self.current - self.previous * self.left_ms // _WINDOW_MS)

    def wait_s(self, cost: int) -> float:
        """Seconds until so much passes if nothing else does meanwhile; a minute where it never will."""
        room = self.limit.most - cost
        if cost <= self.remaining:
            return 0.0
        if room < 0:
            return WINDOW_S
        if room >= self.current:
            return (self.left_ms - _fading_ms(self.previous, room - self.current)) / 1000
        return (self.left_ms + _WINDOW_MS - _fading_ms(self.current, room)) / 1000


def _fading_ms(count: int, room: int) -> float:
    """What is left of the window behind a count's at the moment when no more of the count than this is counted."""
    return min(_WINDOW_MS * (room + 1) / count, _WINDOW_MS)


def count_against(limits: Sequence[Limit], cost: int) -> tuple[bool, list[Count]]:
    """Count a cost against all of these limits, or against none; whether it passed, and where each counter stands.

    Raises:
        RedisError: Redis is away.
    """
    count = redis_client().register_script(_COUNT)
    passed, counts = count(
        keys=[_PREFIX + limit.name for limit in limits], args=[_WINDOW_MS, cost, *(limit.most for limit in limits)]
    )
    return bool(passed), [
        Count(limit=limit, current=current, previous=previous, left_ms=left_ms)
        for limit, (current, previous, left_ms, _) in zip(limits, counts, strict=True)
    ]
