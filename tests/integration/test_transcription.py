from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from structlog.testing import CapturingLogger

from core import claims, queue
from core.claims import Claim
from core.database import transaction
from core.errors import InvalidImage, Unavailable
from core.jobs import cancel
from core.settings import settings
from core.states import Priority
from tests.domain import MODEL, assert_ledger_balances, new_caller, rows, submit_lines
from tests.fakes import FakeRecognizer
from tests.waiting import wait_until
from tests.workers import FakeDecoder, worker_of
from worker.recognizer import LineRequest


def all_ended() -> bool:
    return rows("SELECT count(*) FROM images WHERE status IN ('queued', 'running')") == [(0,)]


def test_a_pump_reads_all_that_waits_for_many_jobs_and_charges_each_once() -> None:
    caller = new_caller()
    for _ in range(10):
        submit_lines(caller, 4)
    with worker_of(FakeRecognizer(rows=8)) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert rows("SELECT DISTINCT status FROM jobs") == [("succeeded",)]
    assert rows("SELECT count(*) FROM lines WHERE text LIKE 'text of img_%'") == [(40,)]
    assert rows("SELECT balance_micro FROM accounts") == [(960_000_000,)]
    assert_ledger_balances()


class MarksSeen(FakeRecognizer):
    """Notes whether its lines were marked as started before it got them."""

    def __init__(self) -> None:
        super().__init__()
        self.marked: list[bool] = []

    def admit(self, lines: Mapping[str, LineRequest]) -> None:
        self.marked += [
            rows("SELECT started_at IS NOT NULL FROM images WHERE id = :id", id=key) == [(True,)] for key in lines
        ]
        super().admit(lines)


@pytest.mark.parametrize("images", [1, 5])
def test_every_image_is_marked_as_started_before_the_model_gets_it(images: int) -> None:
    submit_lines(new_caller(), images)
    recognizer = MarksSeen()
    with worker_of(recognizer) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert recognizer.marked == [True] * images


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each trip to mark them as started has marked."""
    counts: list[int] = []
    mark_started = claims.mark_started

    def counted(starting: Sequence[Claim]) -> None:
        counts.append(len(starting))
        mark_started(starting)

    monkeypatch.setattr("core.claims.mark_started", counted)
    return counts


def test_an_image_that_an_idle_worker_claims_alone_takes_no_trip_to_be_marked(trips: list[int]) -> None:
    submit_lines(new_caller())
    with worker_of(FakeRecognizer()) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert trips == []


def test_an_image_that_is_claimed_while_others_are_here_is_not_marked_before_its_turn() -> None:
    going_on = threading.Event()
    caller = new_caller()
    submit_lines(caller)

    def wait_in_step() -> None:
        going_on.wait(10)

    with worker_of(FakeRecognizer(rows=1, on_step=wait_in_step)) as transcription:
        transcription.pumps.pump()
        wait_until(lambda: transcription.batcher.in_rows == 1)
        submit_lines(caller)
        transcription.pumps.pump()
        marked = rows("SELECT started_at IS NOT NULL FROM images ORDER BY sequence")
        going_on.set()
        wait_until(all_ended)
    assert marked == [(True,), (False,)]


def test_nobody_is_marked_with_a_suspect() -> None:
    submit_lines(new_caller(), 6)
    with transaction() as connection:
        connection.execute(text("UPDATE images SET losses = 1 WHERE position = 0"))
    marked: list[object] = []

    def count_marked() -> None:
        marked.extend(rows("SELECT count(*) FROM images WHERE started_at IS NOT NULL")[0])

    with worker_of(FakeRecognizer(on_admit=count_marked)) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert marked[0] == 1


def test_those_that_start_soon_are_marked_in_the_same_trip(trips: list[int]) -> None:
    submit_lines(new_caller(), 32)
    with worker_of(FakeRecognizer(rows=2)) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert sum(trips) == 32
    assert len(trips) < 16


def test_lines_of_many_jobs_share_a_batch() -> None:
    caller = new_caller()
    for _ in range(8):
        submit_lines(caller)
    recognizer = FakeRecognizer(rows=8)
    with worker_of(recognizer) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert max(map(len, recognizer.admitted)) > 1


def test_a_worker_without_a_model_leaves_its_jobs_and_tickets_to_one_that_has_it() -> None:
    caller = new_caller()
    submit_lines(caller, 3)
    submit_lines(caller, 2, model="other")
    with worker_of(FakeRecognizer()) as transcription:
        transcription.pumps.pump()
        wait_until(lambda: rows("SELECT count(*) FROM images WHERE status = 'succeeded'") == [(3,)])
    waiting = "SELECT status, attempt FROM images WHERE model = 'other'"
    assert rows(waiting) == [("queued", 0)] * 2
    assert queue.waiting_tickets("other") == 1
    with worker_of(FakeRecognizer(), model="other") as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert rows(waiting) == [("succeeded", 1)] * 2


def test_one_worker_serves_several_models_each_its_own_jobs() -> None:
    caller = new_caller()
    jobs = {model: submit_lines(caller, 2, model=model) for model in (MODEL, "other")}
    keys = {
        model: [str(key) for (key,) in rows("SELECT id FROM images WHERE job_id = :id", id=job_id)]
        for model, job_id in jobs.items()
    }
    recognizers = {MODEL: FakeRecognizer(), "other": FakeRecognizer()}
    with worker_of(recognizers[MODEL]) as one, worker_of(recognizers["other"], model="other") as another:
        for transcription in (one, another):
            transcription.pumps.pump()
        wait_until(all_ended)
    for model, recognizer in recognizers.items():
        assert sorted(key for group in recognizer.admitted for key in group) == sorted(keys[model])


def test_an_image_that_does_not_decode_fails_alone_and_free() -> None:
    submit_lines(new_caller())
    with worker_of(FakeRecognizer(), FakeDecoder(InvalidImage("truncated"))) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert rows("SELECT status, error_code, error_message FROM images") == [("failed", "invalid_image", "truncated")]
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(1_000_000_000, 0)]


@pytest.mark.parametrize("outage", [OSError("no process"), MemoryError()])
def test_images_wait_while_no_process_decodes_or_memory_is_short(outage: Exception) -> None:
    submit_lines(new_caller(), 5)
    with worker_of(FakeRecognizer(), FakeDecoder(outage)) as transcription:
        with pytest.raises(Unavailable):
            transcription.pumps.pump()
        wait_until(lambda: rows("SELECT DISTINCT status FROM images") == [("queued",)])
        assert transcription.held() == []


def storage_folder() -> Path:
    return Path(settings().storage_url.removeprefix("file://"))


@contextmanager
def set_aside(path: Path) -> Iterator[None]:
    """A file or folder cannot be read, and comes back: what stands in its place is a link to itself."""
    aside = path.rename(path.with_name(f"{path.name}-aside"))
    path.symlink_to(path)
    try:
        yield
    finally:
        path.unlink()
        aside.rename(path)


def test_a_pump_ends_at_a_storage_that_cannot_be_read_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    monkeypatch.setattr("worker.transcription._log", log)
    job_id = submit_lines(new_caller(), 20)
    with set_aside(storage_folder()), worker_of(FakeRecognizer()) as transcription:
        with pytest.raises(Unavailable):
            transcription.pumps.pump()
        wait_until(lambda: rows("SELECT DISTINCT status FROM images") == [("queued",)])
    assert rows("SELECT sum(attempt) FROM images") == [(queue.SLICE_IMAGES,)]
    (warning,) = (call.kwargs for call in log.calls)
    assert (warning["model"], warning["images"], [*warning["jobs"]]) == (MODEL, queue.SLICE_IMAGES, [job_id])


def test_an_image_that_cannot_be_read_now_waits_and_the_others_of_its_slice_do_not() -> None:
    job_id = submit_lines(new_caller(), 5)
    ((bad,),) = rows("SELECT id FROM images WHERE position = 2")
    with worker_of(FakeRecognizer()) as transcription:
        with set_aside(storage_folder() / "images" / job_id / str(bad)):
            with pytest.raises(Unavailable):
                transcription.pumps.pump()
            wait_until(lambda: rows("SELECT count(*) FROM images WHERE status = 'succeeded'") == [(4,)])
            wait_until(lambda: rows("SELECT status, losses FROM images WHERE position = 2") == [("queued", 0)])
        transcription.pumps.pump()
        wait_until(all_ended)
    assert rows("SELECT DISTINCT status FROM images") == [("succeeded",)]
    assert_ledger_balances()


def test_an_interactive_image_that_cannot_be_read_now_ends_its_own_ticket_only() -> None:
    caller, may_step = new_caller(), threading.Event()
    bulk = submit_lines(caller, 40, priority=Priority.BULK)

    def step() -> None:
        may_step.wait(20)

    with worker_of(FakeRecognizer(rows=4, on_step=step)) as transcription:
        pump = threading.Thread(target=transcription.pumps.pump)
        pump.start()
        wait_until(lambda: not transcription.batcher.has_room())
        urgent = submit_lines(caller, priority=Priority.INTERACTIVE)
        with set_aside(storage_folder() / "images" / urgent), pytest.raises(Unavailable):
            transcription.pumps.pump()
        wait_until(
            lambda: rows("SELECT status FROM images WHERE attempt = 1 AND job_id = :id", id=urgent) == [("queued",)]
        )
        may_step.set()
        pump.join(20)
        wait_until(all_ended)
    assert rows("SELECT id FROM jobs WHERE status = 'succeeded' ORDER BY id") == [(bulk,), (urgent,)]


def test_a_blank_image_calls_no_model_and_costs_nothing() -> None:
    submit_lines(new_caller())
    recognizer = FakeRecognizer()
    with worker_of(recognizer, FakeDecoder(blank=True)) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert recognizer.admitted == []
    assert rows("SELECT flags FROM lines") == [(["blank"],)]
    assert rows("SELECT balance_micro FROM accounts") == [(1_000_000_000,)]


def test_a_stop_gives_back_what_was_not_read() -> None:
    submit_lines(new_caller(), 30)
    reading, may_end = threading.Event(), threading.Event()

    def first_step() -> None:
        reading.set()
        may_end.wait(20)

    with worker_of(FakeRecognizer(rows=2, on_step=first_step)) as transcription:
        pump = threading.Thread(target=transcription.pumps.pump)
        pump.start()
        assert reading.wait(20)
        transcription.pumps.stop()
        pump.join(20)
        may_end.set()
    assert rows("SELECT count(*) FROM images WHERE status = 'running'") == [(0,)]
    assert rows("SELECT max(losses) FROM images") == [(0,)]
    ((queued,),) = rows("SELECT count(*) FROM images WHERE status = 'queued'")
    assert isinstance(queued, int) and queued > 0


def test_a_canceled_image_leaves_the_model_and_is_not_charged() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2)
    reading, may_end = threading.Event(), threading.Event()

    def step() -> None:
        reading.set()
        may_end.wait(20)

    with worker_of(FakeRecognizer(rows=2, on_step=step)) as transcription:
        transcription.pumps.pump()
        assert reading.wait(20)
        cancel(caller, job_id)
        transcription.drop([str(image_id) for (image_id,) in rows("SELECT id FROM images")])
        may_end.set()
    assert rows("SELECT DISTINCT status FROM images") == [("canceled",)]
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(1_000_000_000, 0)]


def test_an_interactive_line_overtakes_bulk_work() -> None:
    caller = new_caller()
    bulk = submit_lines(caller, 500, priority=Priority.BULK)
    steps = threading.Semaphore(0)

    def step() -> None:
        steps.acquire(timeout=20)

    with worker_of(FakeRecognizer(rows=8, on_step=step)) as transcription:
        tickets = [threading.Thread(target=transcription.pumps.pump)]
        tickets[0].start()
        wait_until(lambda: transcription.batcher.in_rows)
        urgent = submit_lines(caller, priority=Priority.INTERACTIVE)
        tickets.append(threading.Thread(target=transcription.pumps.pump))
        tickets[1].start()
        # It is claimed and decoded without a step; how long that takes is the machine's affair.
        wait_until(lambda: any(held.submitted for held in transcription._images.all() if held.claim.job_id == urgent))
        while rows("SELECT images_done FROM jobs WHERE id = :id", id=urgent) == [(0,)]:
            assert rows("SELECT images_done FROM jobs WHERE id = :id", id=bulk) < [(20,)]
            steps.release()
        transcription.pumps.stop()
        steps.release(10_000)
        for ticket in tickets:
            ticket.join(20)


def test_a_ticket_too_many_makes_a_running_pump_look_again() -> None:
    caller = new_caller()
    submit_lines(caller)
    with worker_of(FakeRecognizer()) as transcription:
        tickets = [threading.Thread(target=transcription.pumps.pump) for _ in range(6)]
        for ticket in tickets:
            ticket.start()
        submit_lines(caller)
        for ticket in tickets:
            ticket.join(20)
        transcription.pumps.pump()
        wait_until(all_ended)


@pytest.mark.parametrize("unreadable", [True, False])
def test_a_line_that_the_model_cannot_read_fails_and_the_others_do_not(unreadable: bool) -> None:
    submit_lines(new_caller(), 4)
    ((bad,),) = rows("SELECT id FROM images ORDER BY position LIMIT 1")
    keys = [str(bad)]
    recognizer = FakeRecognizer(rows=4, unreadable=keys) if unreadable else FakeRecognizer(rows=4, poisonous=keys)
    with worker_of(recognizer) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert rows("SELECT status, count(*) FROM images GROUP BY status ORDER BY 1") == [("failed", 1), ("succeeded", 3)]
    assert rows("SELECT error_code FROM images WHERE id = :id", id=bad) == [("internal",)]
    assert_ledger_balances()


def a_wide_strip() -> FakeDecoder:
    pixels = np.full((8, 800, 3), 255, np.uint8)
    for column in range(0, 800, 20):
        pixels[2:6, column : column + 12 : 3] = 0
    return FakeDecoder(pixels=pixels)


def test_a_line_too_wide_for_the_model_is_one_line_and_charged_once() -> None:
    submit_lines(new_caller())
    recognizer = FakeRecognizer(rows=8)
    with worker_of(recognizer, a_wide_strip()) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
    assert [len(group) for group in recognizer.admitted] == [7]
    ((text, flags, box),) = rows("SELECT text, flags, bbox FROM lines")
    assert str(text).count("text of img_") == 7
    assert (flags, box) == (["long_line"], [0, 0, 40, 8])
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(999_000_000, 0)]
    assert_ledger_balances()


def test_a_part_that_cannot_be_read_fails_its_image_free() -> None:
    submit_lines(new_caller(), 2)
    ((bad,),) = rows("SELECT id FROM images ORDER BY position LIMIT 1")
    with worker_of(FakeRecognizer(rows=16, unreadable=[f"{bad}/0"]), a_wide_strip()) as transcription:
        transcription.pumps.pump()
        wait_until(all_ended)
        assert transcription.held() == []
    assert rows("SELECT status FROM images ORDER BY position") == [("failed",), ("succeeded",)]
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(999_000_000, 0)]
    assert_ledger_balances()


def test_a_stop_gives_back_a_long_line_of_which_parts_were_read() -> None:
    submit_lines(new_caller())
    reading, may_end = threading.Event(), threading.Event()

    def step() -> None:
        reading.set()
        may_end.wait(20)

    with worker_of(FakeRecognizer(rows=4, on_step=step), a_wide_strip()) as transcription:
        transcription.pumps.pump()
        assert reading.wait(20)
        may_end.set()
        transcription.stop(grace_s=5)
    assert rows("SELECT status, losses FROM images") == [("queued", 0)]
