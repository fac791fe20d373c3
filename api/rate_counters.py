"""Counters over a sliding minute, in the Redis of all processes: judged and counted together for all who come.

Source of the method: https://blog.cloudflare.com/counting-things-a-lot-of-different-things/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from core.redis_address import redis_client, redis_patience
from core.shared_turns import NotDone, SharedTurns

WINDOW_S = 60
_WINDOW_MS = 1000 * WINDOW_S
_PREFIX = "inkqueue:counter:"
#: Costs of one trip.
_MOST_COSTS = 64
#: A trip takes a millisecond. Where one takes longer, those behind it do not wait for it.
_PATIENCE_S = 0.5
#: Each key is a counter: when its window began by Redis's clock, what was counted in it, and in the one before. After
#: the window's length the arguments are costs, each followed by the limits of its keys and a 0.
_COUNT = """
local window_ms = tonumber(ARGV[1])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function found(key)
    local kept = redis.call('HMGET', key, 'began_ms', 'current', 'previous')
    local began_ms, current, previous = tonumber(kept[1]) or 0, tonumber(kept[2]), tonumber(kept[3])
    local age_ms = now_ms - began_ms
    if age_ms < 0 then
        began_ms = now_ms
        redis.call('HSET', key, 'began_ms', began_ms)
    elseif age_ms >= 2 * window_ms then
        began_ms, current, previous = now_ms, 0, 0
    elseif age_ms >= window_ms then
        began_ms, current, previous = began_ms + window_ms, 0, current
    end
    local left_ms = began_ms + window_ms - now_ms
    return {key = key, began_ms = began_ms, current = current, previous = previous, left_ms = left_ms}
end

local function keep(counter)
    local fields = {'began_ms', counter.began_ms, 'current', counter.current, 'previous', counter.previous}
    redis.call('HSET', counter.key, unpack(fields))
    redis.call('PEXPIRE', counter.key, 2 * window_ms)
end

local answers, argument, key = {}, 2, 1
while argument <= #ARGV do
    local cost, passes, counters, counts = tonumber(ARGV[argument]), 1, {}, {}
    argument = argument + 1
    while tonumber(ARGV[argument]) > 0 do
        local counter = found(KEYS[key])
        local counted = math.floor(counter.previous * counter.left_ms / window_ms) + counter.current
        if counted + cost > tonumber(ARGV[argument]) then
            passes = 0
        end
        table.insert(counters, counter)
        argument, key = argument + 1, key + 1
    end
    argument = argument + 1
    for _, counter in ipairs(counters) do
        if passes == 1 then
            counter.current = counter.current + cost
            keep(counter)
        end
        table.insert(counts, {counter.current, counter.previous, counter.left_ms})
    end
    table.insert(answers, {passes, counts})
end
return answers
"""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much may be counted under a name within a minute."""

    #: Whose it is: `account` or `key`.
    owner: str
    name: str
    most: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What is to be counted against all of these limits, or against none."""

    amount: int
    limits: Sequence[Limit]


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

    def wait_ms(self, amount: int) -> int:
        """Milliseconds until so much passes if nothing else does meanwhile; a window's where it never will."""
        room = self.limit.most - amount
        if amount <= self.remaining:
            return 0
        if room < 0:
            return _WINDOW_MS
        if room >= self.current:
            return self.left_ms - _fading_ms(self.previous, room - self.current)
        return self.left_ms + _WINDOW_MS - _fading_ms(self.current, room)


def _fading_ms(count: int, room: int) -> int:
    """What is left of the window behind a count's when no more of the count than this is counted for the first time."""
    return min((_WINDOW_MS * (room + 1) - 1) // count, _WINDOW_MS)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether a cost passed, and where its limits' counters stand now."""

    passed: bool
    counts: Sequence[Count]


def count(cost: Cost) -> Judgement:
    """Judge and count a cost, together with whatever else is to be counted at the same time.

    Raises:
        RedisError: Redis is away, or slow; nothing is known of the cost.
    """
    # Asked before, too: nobody waits behind the one who tries whether it is back.
    if redis_patience().is_exhausted:
        raise RedisConnectionError("Redis did not answer a moment ago")
    try:
        return turns.do(cost)
    except NotDone:
        raise RedisConnectionError("Redis did not answer in time") from None


def _count_together(costs: Sequence[Cost]) -> Sequence[Judgement | Exception]:
    try:
        with redis_patience().asking():
            return _count(costs)
    except RedisError:
        # Each has one of its own: an exception refers to all that its thread did.
        return [RedisConnectionError("Redis did not answer") for _ in costs]


#: Of this process.
turns: SharedTurns[Cost, Judgement] = SharedTurns(
    _count_together, size=lambda _: 1, most=_MOST_COSTS, patience_s=_PATIENCE_S
)


def _count(costs: Sequence[Cost]) -> list[Judgement]:
    keys = [_PREFIX + limit.name for cost in costs for limit in cost.limits]
    arguments = [each for cost in costs for each in (cost.amount, *(limit.most for limit in cost.limits), 0)]
    answers = redis_client().register_script(_COUNT)(keys=keys, args=[_WINDOW_MS, *arguments])
    return [
        Judgement(
            passed=bool(passed),
            counts=[
                Count(limit=limit, current=current, previous=previous, left_ms=left_ms)
                for limit, (current, previous, left_ms) in zip(cost.limits, counts, strict=True)
            ],
        )
        for cost, (passed, counts) in zip(costs, answers, strict=True)
    ]
