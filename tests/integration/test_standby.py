from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from redis import Redis

from core import leases, notices, queue, standby
from core.accounts import Caller
from core.redis_address import redis_client
from core.states import Priority
from tests.domain import MODEL, new_caller, rows, submit_lines
from tests.fakes import FakeRecognizer
from tests.standby import hearing, standing_by
from tests.waiting import wait_until
from tests.workers import FakeDecoder, heartbeat_of, worker_of
from worker.recognizer import LinePixels
from worker.transcription import Transcription


def test_a_worker_that_stands_by_is_woken_instead_of_sent_a_ticket() -> None:
    with standing_by(MODEL) as woken:
        submit_lines(new_caller())
        wait_until(lambda: woken == [MODEL])
    assert queue.waiting_tickets(MODEL) == 0


def test_who_was_woken_is_sent_tickets_until_it_stands_by_again() -> None:
    caller = new_caller()
    with standing_by(MODEL) as woken:
        submit_lines(caller)
        submit_lines(caller)
        assert queue.waiting_tickets(MODEL) == 1
        wait_until(lambda: woken == [MODEL])


@pytest.mark.parametrize(("images", "called"), [(16, 1), (33, 3), (80, 4)])
def test_a_worker_is_woken_for_each_slice(images: int, called: int) -> None:
    with standing_by(MODEL, workers=4) as woken:
        submit_lines(new_caller(), images)
        wait_until(lambda: len(woken) == called)
        assert standby.wake(MODEL, most=16) == 4 - called
    assert queue.waiting_tickets(MODEL) == 0


def test_who_stands_by_for_another_model_is_left_alone() -> None:
    with standing_by("other") as woken:
        submit_lines(new_caller())
    assert woken == []
    assert queue.waiting_tickets(MODEL) == 1


def test_a_worker_that_died_standing_by_is_passed_over() -> None:
    caller = new_caller()
    for dead in ("wrk_1", "wrk_2", "wrk_3"):
        standby.stand_by(dead, MODEL)
    with standing_by(MODEL) as woken:
        submit_lines(caller)
        wait_until(lambda: woken == [MODEL])
    for dead in ("wrk_1", "wrk_2", "wrk_3"):
        standby.stand_by(dead, MODEL)
    submit_lines(caller)
    assert queue.waiting_tickets(MODEL) == 1


def test_a_worker_that_stands_down_is_not_woken() -> None:
    worker_id = leases.register([])
    with hearing(worker_id) as woken:
        for model in (MODEL, "other"):
            standby.stand_by(worker_id, model)
        standby.stand_down(worker_id, [MODEL])
        assert (standby.wake(MODEL, most=1), standby.wake("other", most=1)) == (0, 1)
        wait_until(lambda: woken == ["other"])


def test_nobody_waits_for_a_redis_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.standby.redis_client", lambda: Redis(unix_socket_path="/nonexistent"))
    standby.stand_by("wrk_1", MODEL)
    standby.stand_down("wrk_1", [MODEL])
    submit_lines(new_caller())
    assert rows("SELECT status FROM jobs") == [("queued",)]


def test_a_worker_reads_what_it_is_woken_for() -> None:
    submit_lines(new_caller(), 3)
    with worker_of(FakeRecognizer()) as transcription:
        transcription.pumps.wake()
        wait_until(lambda: rows("SELECT DISTINCT status FROM images") == [("succeeded",)])


class SlowDecoder(FakeDecoder):
    """Decodes so many images at once, and the others when the block is left, on which it decodes all at once."""

    def __init__(self, at_once: int = 0) -> None:
        super().__init__()
        self._at_once = at_once
        self._lock = threading.Lock()
        self.held: list[Future[LinePixels]] = []

    def decode(self, data: bytes, *, max_pixels: int, urgency: int) -> Future[LinePixels]:
        with self._lock:
            self._at_once -= 1
            if self._at_once >= 0:
                return super().decode(data, max_pixels=max_pixels, urgency=urgency)
            future: Future[LinePixels] = Future()
            self.held.append(future)
            return future

    def decode_all(self) -> None:
        with self._lock:
            self._at_once = 10_000
        for future in self.held:
            future.set_result(self._pixels)


@contextmanager
def slowly_decoding(*, rows: int = 64, at_once: int = 0) -> Iterator[tuple[Transcription, SlowDecoder]]:
    """A worker whose pictures are slow to come until the block is left."""
    decoder = SlowDecoder(at_once)
    with worker_of(FakeRecognizer(rows=rows), decoder) as transcription:
        try:
            yield transcription, decoder
        finally:
            decoder.decode_all()


def stands_by(transcription: Transcription) -> bool:
    key = f"inkqueue:standing-by:{transcription.model}"
    return bool(redis_client().sismember(key, transcription.worker_id))


def test_a_worker_stands_by_as_soon_as_nothing_else_waits() -> None:
    caller = new_caller()
    submit_lines(caller)
    with slowly_decoding() as (transcription, decoder), hearing(transcription.worker_id) as woken:
        transcription.pumps.wake()
        wait_until(lambda: decoder.held and stands_by(transcription))
        submit_lines(caller)
        wait_until(lambda: woken == [MODEL])


def test_a_full_pump_calls_company_and_reads_on() -> None:
    submit_lines(new_caller(), 100)
    with slowly_decoding(at_once=queue.SLICE_IMAGES) as (transcription, decoder):
        transcription.pumps.wake()
        wait_until(lambda: len(decoder.held) == 2 * queue.SLICE_IMAGES)


def test_what_waits_behind_slow_pictures_is_handed_on() -> None:
    caller = new_caller()
    with slowly_decoding() as (transcription, decoder):
        submit_lines(caller)
        transcription.pumps.wake()
        wait_until(lambda: len(decoder.held) == 1)
        submit_lines(caller)
        transcription.pumps.wake()
        wait_until(lambda: len(decoder.held) == 2)
        submit_lines(caller)
        redis_client().delete(queue.queue_name(MODEL))
        transcription.pumps.wake()
        wait_until(lambda: queue.waiting_tickets(MODEL) == 1)


def test_what_is_claimed_and_not_decoded_takes_room() -> None:
    submit_lines(new_caller(), 15)
    with slowly_decoding(rows=4) as (transcription, decoder):
        transcription.pumps.wake()
        wait_until(lambda: len(decoder.held) == 15)
        transcription.stand_by()
        assert not stands_by(transcription)


def test_a_worker_without_room_leaves_what_comes_to_others() -> None:
    with without_room(new_caller(), rows=2, lines=11) as (transcription, may_step), hearing(transcription.worker_id):
        heartbeat_of(transcription).beat()
        assert standby.wake(MODEL, most=1) == 0
        may_step.set()
        wait_until(transcription.batcher.has_room)
        heartbeat_of(transcription).beat()
        assert standby.wake(MODEL, most=1) == 1


@contextmanager
def without_room(caller: Caller, *, rows: int = 8, lines: int = 40) -> Iterator[tuple[Transcription, threading.Event]]:
    """A worker that has claimed all it may of so many bulk lines; it makes steps once the event is set."""
    may_step = threading.Event()

    def step() -> None:
        may_step.wait(20)

    submit_lines(caller, lines, priority=Priority.BULK)
    with worker_of(FakeRecognizer(rows=rows, on_step=step)) as transcription:
        try:
            transcription.pumps.wake()
            wait_until(lambda: not transcription.batcher.has_room())
            yield transcription, may_step
        finally:
            may_step.set()


def test_a_worker_stands_by_again_after_a_flush() -> None:
    with worker_of(FakeRecognizer()) as transcription, hearing(transcription.worker_id):
        transcription.pumps.pump()
        redis_client().flushall()
        assert standby.wake(MODEL, most=1) == 0
        heartbeat_of(transcription).beat()
        assert standby.wake(MODEL, most=1) == 1


def test_a_worker_that_stops_hands_on_what_it_is_woken_for() -> None:
    submit_lines(new_caller())
    redis_client().flushall()
    with worker_of(FakeRecognizer()) as transcription, hearing(transcription.worker_id):
        transcription.pumps.stop()
        transcription.pumps.wake()
        wait_until(lambda: queue.waiting_tickets(MODEL) == 1)
        heartbeat_of(transcription).beat()
        assert standby.wake(MODEL, most=1) == 0
    assert rows("SELECT attempt FROM images") == [(0,)]


def test_more_that_is_interactive_than_a_slice_is_handed_on() -> None:
    caller = new_caller()
    with without_room(caller) as (transcription, may_step):
        urgent = submit_lines(caller, 20, priority=Priority.INTERACTIVE)
        redis_client().delete(queue.queue_name(MODEL))
        ticket = threading.Thread(target=transcription.pumps.pump)
        ticket.start()
        claimed = "SELECT count(*) FROM images WHERE attempt = 1 AND job_id = :id"
        wait_until(lambda: rows(claimed, id=urgent) == [(queue.SLICE_IMAGES,)])
        wait_until(lambda: queue.waiting_tickets(MODEL) == 1)
        may_step.set()
        ticket.join(20)


def test_a_worker_that_was_filled_up_hands_on_what_it_is_woken_for() -> None:
    with without_room(new_caller()) as (transcription, _):
        redis_client().delete(queue.queue_name(MODEL))
        transcription.pumps.wake()
        wait_until(lambda: queue.waiting_tickets(MODEL) == 1)


def test_a_model_in_a_folder_with_a_space_is_woken_by_its_name() -> None:
    model = "/data/my models/été"
    with standing_by(model) as woken:
        assert standby.wake(model, most=1) == 1
        wait_until(lambda: woken)
    assert [standby.model_of(word) for word in woken] == [model]


def test_a_redis_that_refuses_writes_still_carries_notices() -> None:
    with hearing("wrk_1") as heard:
        redis_client().config_set("min-replicas-to-write", 1)
        try:
            standby.stand_by("wrk_1", MODEL)
            assert standby.wake(MODEL, most=1) == 0
            notices.notify(standby.wakes_of("wrk_1"), ["word"])
            wait_until(lambda: heard == ["word"])
        finally:
            redis_client().config_set("min-replicas-to-write", 0)


def test_a_worker_that_ends_as_soon_as_it_has_claimed_gives_back_what_it_has() -> None:
    submit_lines(new_caller(), 6)
    environment = os.environ | {"PYTHONPATH": "."}
    with subprocess.Popen([sys.executable, "-m", "tests.slow_worker"], env=environment) as process:
        wait_until(lambda: rows("SELECT FROM images WHERE status = 'running'"), timeout_s=60, look_every_s=0.001)
        process.terminate()
        assert process.wait(60) == 0
    assert set(rows("SELECT status, losses FROM images")) <= {("queued", 0), ("succeeded", 0)}
