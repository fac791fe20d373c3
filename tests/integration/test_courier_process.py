from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from core import outcomes
from core.claims import claim
from core.redis_address import redis_client
from tests.domain import MODEL, new_caller, read, rows, submit_lines
from tests.receiver import Receiver, receiving, status
from tests.waiting import wait_until
from tests.webhook_domain import endpoint

pytestmark = [pytest.mark.usefixtures("webhooks_to_here"), pytest.mark.timeout(240)]

#: Each has a start and an end: a thousand deliveries.
JOBS = 500


@contextmanager
def courier_process(receiver: Receiver) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"PYTHONPATH": ".", "INKQUEUE_WEBHOOK_ALLOW_PORTS": str(receiver.port)}
    with subprocess.Popen([sys.executable, "-m", "worker.courier"], env=environment) as process:
        try:
            yield process
        finally:
            process.terminate()


def failing_now_and_then(handler: BaseHTTPRequestHandler, number: int) -> None:
    status(500 if number % 10 == 3 else 200)(handler, number)


def test_a_thousand_deliveries_survive_a_killed_courier_and_a_flushed_redis() -> None:
    caller = new_caller()
    with receiving(failing_now_and_then) as receiver:
        _, secret = endpoint(caller, receiver)
        for _ in range(JOBS):
            submit_lines(caller)
        while taken := claim("wrk_1", MODEL, most=16):
            outcomes.finish([read(found) for found in taken])
        with courier_process(receiver) as first:
            wait_until(lambda: len(receiver.requests) >= JOBS // 2, timeout_s=60)
            os.kill(first.pid, signal.SIGKILL)
        redis_client().flushall()
        with courier_process(receiver):
            wait_until(lambda: not rows("SELECT FROM webhook_deliveries WHERE status = 'pending'"), timeout_s=120)
    ended = rows("SELECT event_id FROM webhook_deliveries WHERE status = 'delivered' AND event = 'job.completed'")
    assert len(ended) == JOBS
    assert set(rows("SELECT DISTINCT status FROM webhook_deliveries")) <= {("delivered",), ("superseded",)}
    times = Counter(request.webhook_id for request in receiver.requests)
    assert {str(event_id) for (event_id,) in ended} <= set(times)
    assert all(request.verified(secret)["id"] == request.webhook_id for request in receiver.requests)
    told = rows("SELECT count(DISTINCT event_id), count(*) FROM webhook_deliveries")
    assert told == [(2 * JOBS, 2 * JOBS)]


def test_a_courier_that_is_told_to_stop_finishes_what_is_under_way() -> None:
    caller = new_caller()
    with receiving() as receiver, courier_process(receiver) as courier:
        endpoint(caller, receiver)
        submit_lines(caller)
        outcomes.finish([read(found) for found in claim("wrk_1", MODEL, most=1)])
        wait_until(lambda: receiver.requests)
        courier.terminate()
        assert courier.wait(20) == 0
    assert rows("SELECT count(*) FROM webhook_deliveries WHERE claimed_until > now() AND ended_at IS NULL") == [(0,)]
