"""Workers that stand by: nothing waits for their model, and a notice wakes them at a fraction of a ticket's cost.

Only a short cut: whoever wakes nobody sends tickets, and the sweeper sends some for what waits all the same.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from redis.exceptions import RedisError

from core.redis_address import redis_client, redis_patience

#: By model, the ids of workers.
_STANDING_BY = "inkqueue:standing-by:"
#: By worker; its words are names of models.
_WAKES = "inkqueue:wake:"
#: A worker stands by anew at each heartbeat, so that a set outlives the last of a model's workers by so long at most.
_FORGOTTEN_AFTER_S = 3600
#: One that nobody hears for has ended without standing down.
_WAKE = """
local woken = 0
while woken < tonumber(ARGV[3]) do
    local worker = redis.call('SPOP', KEYS[1])
    if not worker then
        break
    end
    woken = woken + redis.call('PUBLISH', ARGV[1] .. worker, ARGV[2])
end
return woken
"""


def wakes_of(worker_id: str) -> str:
    """The channel on which a worker is woken; its words are the models that something waits for."""
    return _WAKES + worker_id


def stand_by(worker_id: str, model: str) -> None:
    """Have a worker woken, once, when something waits for a model; without Redis this does nothing."""
    with suppress(RedisError), redis_patience().asking(), redis_client().pipeline(transaction=False) as pipeline:
        pipeline.sadd(_STANDING_BY + model, worker_id)
        pipeline.expire(_STANDING_BY + model, _FORGOTTEN_AFTER_S)
        pipeline.execute()


def stand_down(worker_id: str, models: Collection[str]) -> None:
    """Have a worker woken for these no more; without Redis this does nothing."""
    with suppress(RedisError), redis_patience().asking(), redis_client().pipeline(transaction=False) as pipeline:
        for model in models:
            pipeline.srem(_STANDING_BY + model, worker_id)
        pipeline.execute()


def wake(model: str, *, most: int) -> int:
    """Wake up to so many workers that stand by for a model; how many were.

    Raises:
        RedisError: Redis is away.
    """
    script = redis_client().register_script(_WAKE)
    woken: int = script(keys=[_STANDING_BY + model], args=[_WAKES, model, most])
    return woken
