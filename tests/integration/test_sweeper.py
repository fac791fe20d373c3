from __future__ import annotations

import pytest
from sqlalchemy import text

from core import leases, queue
from core.claims import claim
from core.database import transaction
from core.redis_address import redis_client
from tests.domain import MODEL, new_caller, rows, submit_lines
from worker.sweeper import _ADVISORY_LOCK, Sweeper


def test_a_ticket_that_a_flush_took_is_sent_again() -> None:
    submit_lines(new_caller())
    redis_client().flushall()
    Sweeper().sweep()
    assert queue.waiting_tickets(MODEL) == 1


@pytest.mark.parametrize(("images", "workers", "tickets"), [(40, 0, 1), (40, 1, 1), (40, 2, 2), (20, 3, 2)])
def test_there_is_a_ticket_for_each_slice_but_not_more_than_workers(images: int, workers: int, tickets: int) -> None:
    submit_lines(new_caller(), images)
    for _ in range(workers):
        leases.register([{"name": MODEL}])
    leases.register([{"name": "other"}])
    sweeper = Sweeper()
    for _ in range(3):
        sweeper.sweep()
    assert queue.waiting_tickets(MODEL) == tickets


def test_a_dead_workers_images_get_new_tickets() -> None:
    submit_lines(new_caller())
    worker_id = leases.register([])
    claim(worker_id, MODEL, most=1)
    redis_client().flushall()
    leases.resign(worker_id)
    sweeper = Sweeper()
    sweeper.sweep()
    assert rows("SELECT status FROM images") == [("queued",)]
    assert queue.waiting_tickets(MODEL) == 1


def test_a_round_without_redis_still_gives_images_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from redis import Redis

    submit_lines(new_caller())
    worker_id = leases.register([])
    claim(worker_id, MODEL, most=1)
    leases.resign(worker_id)
    away = Redis(unix_socket_path="/nonexistent")
    for module in ("core.queue", "core.standby", "core.notices"):
        monkeypatch.setattr(f"{module}.redis_client", lambda: away)
    Sweeper().sweep()
    assert rows("SELECT status FROM images") == [("queued",)]


def test_one_of_several_couriers_sweeps_at_a_time() -> None:
    submit_lines(new_caller())
    worker_id = leases.register([])
    claim(worker_id, MODEL, most=1)
    leases.resign(worker_id)
    with transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        Sweeper().sweep()
        assert rows("SELECT status FROM images") == [("running",)]
    Sweeper().sweep()
    assert rows("SELECT status FROM images") == [("queued",)]
