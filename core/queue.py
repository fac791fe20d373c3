"""Tickets: Celery messages that say "there is work for this model", and nothing more.

Postgres holds the work. A ticket that is lost or doubled does no harm: the sweeper adds one, a surplus one finds
nothing to claim.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

from celery import Celery
from redis.exceptions import RedisError

from core import standby
from core.redis_address import redis_client, redis_patience
from core.settings import settings

#: Single-line images that are claimed at once.
SLICE_IMAGES = 16
#: Workers that are called at once for one model: each goes on while there is work.
MAX_CALLED = 16
READ_TASK = "inkqueue.read"
#: A ticket lasts while there is work for its model, so it may be delivered twice, which does no harm; an hour keeps
#: that rare.
_VISIBILITY_TIMEOUT_S = 3600

#: Nobody waits long for Redis, seconds.
_SOCKET_TIMEOUT_S = 1


def queue_name(model: str) -> str:
    """The Celery queue of a model's tickets."""
    return f"read:{model}"


@lru_cache(maxsize=1)
def celery_app() -> Celery:
    """The Celery application, for the producer and for the worker alike."""
    app = Celery("inkqueue", broker=settings().redis_url)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        # A Redis whose disk or memory is full refuses writes: a worker waits for it as for one that is away.
        broker_channel_error_retry=True,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            # kombu looks for messages of lost consumers only now and then; its defaults make that some 100 s.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": _SOCKET_TIMEOUT_S,
            # For the producer: whoever submits a job does not wait for a Redis that hangs. A worker lifts it.
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "retry_on_timeout": False,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app


def slices_of(images: int) -> int:
    """How many workers so many waiting images are worth."""
    return min(-(-images // SLICE_IMAGES), MAX_CALLED)


def ring(model: str, *, images: int) -> None:
    """Have so many waiting images of a model read.

    Workers that stand by are woken, one for each slice. Where none does, a ticket is sent: most are at work then, and
    look again before they end, but one may not have been heard of, and what is interactive overtakes. Without Redis
    this does nothing, and the sweeper makes up for it.
    """
    if not standby.wake(model, most=slices_of(images)):
        send_tickets(model, at_most=1)


def send_tickets(model: str, *, at_most: int) -> None:
    """See to it that so many tickets wait for a model: one that waits already will find the newest work too.

    Without Redis this does nothing, and the sweeper makes up for it.
    """
    with suppress(RedisError), redis_patience().asking():
        missing = at_most - waiting_tickets(model)
        if missing <= 0:
            return
        with celery_app().producer_or_acquire() as producer:
            for _ in range(missing):
                celery_app().send_task(READ_TASK, (model,), queue=queue_name(model), producer=producer, retry=False)


def waiting_tickets(model: str) -> int:
    """Tickets that no worker has taken yet.

    Raises:
        RedisError: Redis is away.
    """
    return redis_client().llen(queue_name(model))


def takable_tickets(model: str) -> int:
    """Tickets that a worker could take now.

    Raises:
        RedisError: Redis is away, or refuses writes, and so gives no ticket to anybody.
    """
    # A write that changes nothing: it is refused where taking a ticket is.
    redis_client().ltrim(queue_name(model), 0, -1)
    return waiting_tickets(model)
