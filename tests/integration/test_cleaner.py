from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from core import job_files, retention
from core.database import transaction, without_row
from core.errors import Unavailable
from core.ids import new_id
from core.job_tables import JobRow
from core.jobs import delete_job
from core.retention import set_retention
from core.settings import settings
from core.storage import image_store
from core.webhooks import JobWebhook
from tests.clocks import Clock
from tests.domain import ended_batch, new_caller, png, rows, submit_lines
from tests.webhook_domain import ended_job
from worker.cleaner import Cleaner


@contextmanager
def unpurged_deletes() -> Iterator[None]:
    """Jobs that are deleted in the block keep their files, as when a process was killed just then."""
    with pytest.MonkeyPatch.context() as cut_short:
        cut_short.setattr("core.job_files.purge", lambda _: None)
        yield


def images_of(job_id: str) -> list[str]:
    return image_store(settings()).list(f"images/{job_id}")


def test_a_delete_that_was_cut_short_is_completed() -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    with unpurged_deletes():
        delete_job(caller, job_id)
    assert images_of(job_id)
    cleaner = Cleaner()
    assert cleaner.clean()
    assert rows("SELECT purged_at IS NOT NULL FROM jobs") == [(True,)]
    assert not images_of(job_id)
    assert rows("SELECT stored_bytes FROM accounts") == [(0,)]
    assert not cleaner.clean()


def test_files_that_cannot_be_deleted_keep_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    callers = [new_caller(name) for name in ("one", "other", "one")]
    jobs = [submit_lines(caller) for caller in callers]
    with unpurged_deletes():
        for caller, job_id in zip(callers, jobs, strict=True):
            delete_job(caller, job_id)
    original = job_files.delete_files

    def delete_files(job_id: str) -> None:
        if job_id == jobs[0]:
            raise Unavailable
        original(job_id)

    with monkeypatch.context() as refusing:
        refusing.setattr(job_files, "delete_files", delete_files)
        assert not Cleaner().clean()
    assert rows("SELECT purged_at IS NOT NULL FROM jobs ORDER BY id") == [(False,), (True,), (True,)]
    assert [bool(images_of(job_id)) for job_id in jobs] == [True, False, False]
    assert Cleaner().clean()
    assert rows("SELECT sum(stored_bytes) FROM accounts") == [(0,)]


def test_many_files_that_cannot_be_deleted_keep_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.job_files._MOST_A_ROUND", 2)
    caller = new_caller()
    jobs = [submit_lines(caller) for _ in range(4)]
    with unpurged_deletes():
        for job_id in jobs:
            delete_job(caller, job_id)
    original = job_files.delete_files

    def delete_files(job_id: str) -> None:
        if job_id in jobs[:2]:
            raise Unavailable
        original(job_id)

    monkeypatch.setattr(job_files, "delete_files", delete_files)
    cleaner = Cleaner()
    for _ in range(2):
        cleaner.clean()
    assert [bool(images_of(job_id)) for job_id in jobs] == [True, True, False, False]


def test_orphans_that_cannot_be_deleted_keep_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    orphans = [f"job_{n:026}" for n in range(3)]  # made in 1970
    for orphan in orphans:
        job_files.put_images(orphan, {"img_1": png()})
    original = job_files.delete_files

    def delete_files(job_id: str) -> None:
        if job_id == orphans[1]:
            raise Unavailable
        original(job_id)

    monkeypatch.setattr(job_files, "delete_files", delete_files)
    with pytest.raises(Unavailable):
        job_files.delete_orphans()
    assert [bool(images_of(orphan)) for orphan in orphans] == [False, True, False]


@pytest.mark.parametrize("failure", [Unavailable, ZeroDivisionError])
def test_a_duty_that_fails_keeps_no_other_from_its_own(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    def fail(_: object) -> None:
        raise failure

    monkeypatch.setattr("core.retention.delete_kept_too_long", fail)
    caller = new_caller()
    job_id = submit_lines(caller)
    with unpurged_deletes():
        delete_job(caller, job_id)
    assert Cleaner().clean()
    assert not images_of(job_id)


def test_batches_that_are_kept_too_long_are_forgotten_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = new_caller()
    with transaction() as connection:
        set_retention(connection, caller.account_id, 1)
    monkeypatch.setattr(retention, "_REQUESTS_A_ROUND", 2)
    ended_batch(caller, 2, requests=5)
    clock = Clock()
    cleaner = Cleaner(clock)
    left = []
    while cleaner.clean():
        left.append(rows("SELECT count(*) FROM batch_requests")[0][0])
    assert left == [3, 1, 0]
    ended_batch(caller, 2, requests=1)
    assert not cleaner.clean()
    clock.pass_time(60)
    assert cleaner.clean()


@pytest.mark.usefixtures("webhooks_to_here")
def test_the_log_of_webhooks_is_shortened_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.webhook_deliveries._MOST_A_ROUND", 2)
    caller = new_caller()
    for _ in range(5):
        ended_job(caller, JobWebhook(url="http://127.0.0.1:1"))
    with transaction() as connection:
        connection.execute(
            text("UPDATE webhook_deliveries SET status = 'failed', ended_at = now() - interval '31 days'")
        )
    cleaner = Cleaner()
    left = []
    while cleaner.clean():
        left.append(rows("SELECT count(*) FROM webhook_deliveries")[0][0])
    assert left == [3, 1, 0]


@pytest.mark.usefixtures("webhooks_to_here")
def test_webhooks_whose_receiver_never_catches_up_are_given_up() -> None:
    caller = new_caller()
    jobs = [ended_job(caller, JobWebhook(url="http://127.0.0.1:1")) for _ in range(4)]
    three_days_s = 3 * 86_400 * settings().webhook_schedule_scale
    overdue = "UPDATE webhook_deliveries SET due_at = now() - :s * interval '1 s' WHERE job_id = :job RETURNING id"
    rows(overdue, s=three_days_s + 1, job=jobs[0])
    rows(overdue, s=three_days_s - 60, job=jobs[1])
    rows(overdue, s=three_days_s + 1, job=jobs[2])
    rows(
        f"UPDATE webhook_deliveries SET claimed_until = now() + interval '1 h' WHERE job_id = '{jobs[2]}' RETURNING id"
    )
    clock = Clock()
    cleaner = Cleaner(clock)
    clock.pass_time(three_days_s - 1)
    cleaner.clean()
    assert rows("SELECT DISTINCT status FROM webhook_deliveries") == [("pending",)]  # they had no chance of late
    clock.pass_time(1)
    assert cleaner.clean()
    assert rows("SELECT status, ended_at IS NOT NULL FROM webhook_deliveries ORDER BY job_id") == [
        ("failed", True),
        *[("pending", False)] * 3,
    ]


def test_orphans_are_looked_for_once_an_hour() -> None:
    clock = Clock()
    cleaner = Cleaner(clock)
    cleaner.clean()
    orphan = "job_" + "0" * 26  # made in 1970
    job_files.put_images(orphan, {"img_1": png()})
    clock.pass_time(3599)
    cleaner.clean()
    assert images_of(orphan)
    clock.pass_time(1)
    cleaner.clean()
    assert not images_of(orphan)


def test_more_ids_than_a_statement_takes_parameters_are_looked_up() -> None:
    there = [submit_lines(new_caller()) for _ in range(2)]
    missing = [new_id("job") for _ in range(70_000)]
    assert without_row(JobRow.id, [there[0], *missing, there[1]]) == missing
