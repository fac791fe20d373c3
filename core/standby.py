"""Workers that stand by: they have found nothing that waits, and a notice wakes them at a fraction of a ticket's cost.

Only a short cut: whoever wakes nobody sends tickets, and the sweeper sends some for what waits all the same.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from urllib.parse import quote, unquote

from redis.exceptions import RedisError, ResponseError

from core.redis_address import redis_client, redis_patience

#: By model, the ids of workers.
_STANDING_BY = "inkqueue:standing-by:"
#: By worker.
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
    if redis.call('PUBLISH', ARGV[1] .. worker, ARGV[2]) > 0 then
        woken = woken + 1
    end
end
return woken
"""


def wakes_of(worker_id: str) -> str:
    """The channel on which a worker is woken; each word stands for a model that something waits for."""
    return _WAKES + worker_id


def model_of(word: str) -> str:
    """The model that a word stands for: its name may be a folder's, with spaces."""
    return unquote(word)


def stand_by(worker_id: str, model: str) -> None:
    """Have a worker woken, once, when something waits for a model; without Redis this does nothing."""
    # A Redis that refuses writes, since it is full or a replica, still carries notices: it is not left alone for that.
    with suppress(RedisError), redis_patience().asking(), suppress(ResponseError):
        trip = redis_client().pipeline(transaction=False)
        trip.sadd(_STANDING_BY + model, worker_id)
        trip.expire(_STANDING_BY + model, _FORGOTTEN_AFTER_S)
        trip.execute()


def stand_down(worker_id: str, models: Collection[str]) -> None:
    """Have a worker woken for these no more; without Redis this does nothing."""
    with suppress(RedisError), redis_patience().asking(), suppress(ResponseError):
        for model in models:
            redis_client().srem(_STANDING_BY + model, worker_id)


def wake(model: str, *, most: int) -> int:
    """Wake up to so many workers that stand by for a model; how many were, which without Redis is none."""
    with suppress(RedisError), redis_patience().asking(), suppress(ResponseError):
        script = redis_client().register_script(_WAKE)
        woken: int = script(keys=[_STANDING_BY + model], args=[_WAKES, quote(model), most])
        return woken
    return 0
