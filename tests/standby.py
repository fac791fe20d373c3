"""Workers that stand by, and hear what they are woken for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from core import notices
from core.ids import new_id
from core.notices import Listener
from core.redis_address import redis_client
from core.standby import stand_by, wakes_of
from tests.waiting import wait_until


@contextmanager
def hearing(*worker_ids: str) -> Iterator[list[str]]:
    """The models that any of these workers is woken for, while the block lasts."""
    woken: list[str] = []
    # A listener ends at its next look.
    with patch.object(notices, "_LOOK_S", 0.02), ExitStack() as stack:
        for worker_id in worker_ids:
            listener = Listener(wakes_of(worker_id), woken.append)
            listener.start()
            stack.callback(listener.stop)
        wait_until(lambda: all(count for _, count in redis_client().pubsub_numsub(*map(wakes_of, worker_ids))))
        yield woken


@contextmanager
def standing_by(*models: str, workers: int = 1) -> Iterator[list[str]]:
    """The models that any of so many workers is woken for, while the block lasts; each stands by for all of them."""
    worker_ids = [new_id("wrk") for _ in range(workers)]
    with hearing(*worker_ids) as woken:
        for worker_id in worker_ids:
            for model in models:
                stand_by(worker_id, model)
        yield woken
