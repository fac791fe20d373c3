from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

import pytest
from celery import Celery

from core import leases, queue
from core.claims import claim, give_back
from core.jobs import cancel
from core.queue import READ_TASK
from core.redis_address import redis_client
from core.settings import settings
from tests.domain import MODEL, new_caller, read, rows, submit_lines
from tests.fakes import FakeRecognizer
from tests.waiting import wait_until
from tests.workers import FakeDecoder, heartbeat_of, worker_of
from worker.finisher import Finisher
from worker.lease import Heartbeat
from worker.recognizer import LinePixels
from worker.tasks import register_tasks
from worker.tickets import Tickets
from worker.transcription import Transcription


class ProcessEnded(BaseException):
    """What `os._exit` would have done."""


@pytest.fixture(autouse=True)
def _exits_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(status: int) -> None:
        assert status == 75
        raise ProcessEnded

    monkeypatch.setattr("worker.lease.os._exit", ended)


@contextmanager
def reading(caller_lines: int) -> Iterator[tuple[Transcription, threading.Event]]:
    """A worker in the middle of a step; the step ends when the event is set, at the latest with the block."""
    may_end = threading.Event()
    submit_lines(new_caller(), caller_lines)
    with worker_of(FakeRecognizer(rows=2, on_step=lambda: _wait(may_end))) as transcription:
        try:
            transcription.pumps.pump()
            wait_until(lambda: transcription.batcher.in_rows)
            yield transcription, may_end
        finally:
            may_end.set()


def _wait(event: threading.Event) -> None:
    event.wait(20)


def _idle_heartbeat(worker_id: str, finisher: Finisher | None = None) -> Heartbeat:
    return Heartbeat(worker_id, [], finisher or Finisher(), Tickets([]))


def test_a_heartbeat_renews_the_lease() -> None:
    worker_id = leases.register([])
    rows("UPDATE workers SET expires_at = now() RETURNING id")
    _idle_heartbeat(worker_id).beat()
    assert rows("SELECT expires_at > now() FROM workers") == [(True,)]


def test_a_worker_whose_lease_was_taken_ends_itself() -> None:
    worker_id = leases.register([])
    rows("DELETE FROM workers RETURNING id")
    with pytest.raises(ProcessEnded):
        _idle_heartbeat(worker_id).beat()


def test_a_worker_whose_model_makes_no_step_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = settings().model_copy(update={"stall_s": 0.05})
    monkeypatch.setattr("worker.lease.settings", lambda: now)
    with reading(2) as (transcription, _):
        heartbeat = heartbeat_of(transcription)

        def ends() -> bool:
            try:
                heartbeat.beat()
            except ProcessEnded:
                return True
            return False

        wait_until(ends)


def test_a_worker_that_reads_is_left_alone() -> None:
    with reading(2) as (transcription, _):
        heartbeat_of(transcription).beat()


@pytest.fixture
def tickets(monkeypatch: pytest.MonkeyPatch) -> Tickets:
    """Those of a worker of two models, to which two looks in turn are the whole stall time."""
    now = settings().model_copy(update={"stall_s": 0.0})
    monkeypatch.setattr("worker.tickets.settings", lambda: now)
    return Tickets([MODEL, "other"])


def test_a_worker_that_hears_no_tickets_ends_itself(tickets: Tickets) -> None:
    heartbeat = Heartbeat(leases.register([]), [], Finisher(), tickets)
    heartbeat.beat()
    queue.ring(MODEL, images=1)
    heartbeat.beat()
    with pytest.raises(ProcessEnded):
        heartbeat.beat()


def unheard(tickets: Tickets) -> list[str]:
    tickets.unheard()
    return tickets.unheard()


def test_a_worker_may_be_deaf_to_one_model_while_it_serves_another(tickets: Tickets) -> None:
    queue.ring(MODEL, images=1)
    with tickets.serving("other"):
        assert unheard(tickets) == [MODEL]


def test_a_ticket_that_came_and_went_between_two_looks_was_heard(tickets: Tickets) -> None:
    queue.ring(MODEL, images=1)
    tickets.unheard()
    with tickets.serving(MODEL):
        pass
    assert [tickets.unheard(), tickets.unheard()] == [[], [MODEL]]


def test_a_worker_whose_threads_are_all_taken_is_not_deaf(tickets: Tickets) -> None:
    queue.ring(MODEL, images=1)
    with ExitStack() as served:
        for _ in range(tickets.threads):
            served.enter_context(tickets.serving("other"))
        assert unheard(tickets) == []
    assert unheard(tickets) == [MODEL]


def test_a_worker_is_not_deaf_where_redis_gives_no_tickets_away(tickets: Tickets) -> None:
    queue.ring(MODEL, images=1)
    redis_client().config_set("min-replicas-to-write", 1)
    try:
        assert unheard(tickets) == []
    finally:
        redis_client().config_set("min-replicas-to-write", 0)
    assert unheard(tickets) == [MODEL]


def test_a_worker_that_was_told_to_stop_is_not_deaf(tickets: Tickets) -> None:
    queue.ring(MODEL, images=1)
    tickets.stop()
    assert unheard(tickets) == []


class LookingDecoder(FakeDecoder):
    """Notes what is unheard in the middle of a pump."""

    def __init__(self, tickets: Tickets) -> None:
        super().__init__()
        self._tickets = tickets
        self.seen: list[list[str]] = []

    def decode(self, data: bytes, *, max_pixels: int, urgency: int) -> Future[LinePixels]:
        self.seen.append(unheard(self._tickets))
        return super().decode(data, max_pixels=max_pixels, urgency=urgency)


def test_no_ticket_of_a_model_is_unheard_while_one_is_served(tickets: Tickets) -> None:
    app, decoder = Celery(set_as_current=False), LookingDecoder(tickets)
    submit_lines(new_caller())
    with worker_of(FakeRecognizer(), decoder) as transcription:
        register_tasks(app, {MODEL: transcription}, tickets)
        app.tasks[READ_TASK](MODEL)
    assert (decoder.seen, unheard(tickets)) == ([[]], [MODEL])


def test_a_cancel_whose_notice_was_lost_is_found_at_the_next_heartbeat() -> None:
    caller = new_caller()
    with reading(2) as (transcription, _):
        cancel(caller, str(rows("SELECT id FROM jobs")[0][0]))
        assert len(transcription.held()) == 2
        heartbeat_of(transcription).beat()
        assert transcription.held() == []


def test_what_was_taken_away_is_dropped_at_the_next_heartbeat_and_nothing_else() -> None:
    with reading(2) as (transcription, _):
        gone, kept = transcription.held()
        give_back([gone])
        claim("wrk_other", MODEL, most=1)
        heartbeat_of(transcription).beat()
        assert transcription.held() == [kept]


def test_what_a_broken_connection_claimed_goes_back_to_the_queue_after_two_beats() -> None:
    submit_lines(new_caller(), 3)
    worker_id = leases.register([])
    claim(worker_id, MODEL, most=2)  # of which the worker never hears
    heartbeat = _idle_heartbeat(worker_id)
    heartbeat.beat()
    assert rows("SELECT count(*) FROM images WHERE status = 'running'") == [(2,)]
    heartbeat.beat()
    assert rows("SELECT status, max(losses), count(*) FROM images GROUP BY status") == [("queued", 0, 3)]


def test_what_waits_to_be_written_is_no_stray() -> None:
    submit_lines(new_caller())
    worker_id, finisher = leases.register([]), Finisher()
    finisher.finish(read(claim(worker_id, MODEL, most=1)[0]))
    heartbeat = _idle_heartbeat(worker_id, finisher)
    heartbeat.beat()
    heartbeat.beat()
    finisher.start()
    assert finisher.close(timeout_s=20)
    assert rows("SELECT status, attempt FROM images") == [("succeeded", 1)]
