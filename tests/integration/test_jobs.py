from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection

from core import claims, job_files, outcomes
from core.database import transaction
from core.errors import AlreadyFinished, Gone, InsufficientCredits, NotFound, Unavailable
from core.job_lists import list_jobs
from core.job_views import job_view
from core.jobs import cancel, delete_job
from core.queue import waiting_tickets
from core.settings import settings
from core.states import Status
from core.storage import image_store
from tests.domain import MODEL, assert_ledger_balances, new_caller, png, read, rows, submit_lines


def stored_files() -> list[str]:
    return image_store(settings()).list("images")


def test_a_submission_stores_files_rows_and_one_hold() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 3)
    assert rows("SELECT count(*) FROM images WHERE job_id = :id AND status = 'queued'", id=job_id) == [(3,)]
    assert rows("SELECT amount_micro FROM ledger WHERE kind = 'hold' AND job_id = :id", id=job_id) == [(3_000_000,)]
    assert len([key for key in stored_files() if job_id in key]) == 3
    assert_ledger_balances()


def test_a_submission_that_wakes_nobody_sends_a_ticket() -> None:
    submit_lines(new_caller(), 33)
    assert waiting_tickets(MODEL) == 1


def test_a_submission_survives_a_redis_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.queue.celery_app", lambda: (_ for _ in ()).throw(ConnectionRefusedError()))
    job_id = submit_lines(new_caller())
    assert rows("SELECT status FROM jobs WHERE id = :id", id=job_id) == [("queued",)]


def test_who_cannot_pay_leaves_no_row_and_no_file() -> None:
    caller = new_caller(grant_credits=2)
    before = stored_files()
    with pytest.raises(InsufficientCredits, match="3 needed, 2 available"):
        submit_lines(caller, 3)
    assert rows("SELECT count(*) FROM jobs") == [(0,)]
    assert stored_files() == before


def test_credits_that_running_jobs_hold_are_told_from_spent_ones() -> None:
    caller = new_caller(grant_credits=2)
    submit_lines(caller, 2)
    with pytest.raises(InsufficientCredits, match="running jobs hold"):
        submit_lines(caller)


def test_a_submission_that_fails_in_the_database_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = new_caller()
    before = stored_files()
    monkeypatch.setattr("core.job_rows.insert", lambda *_: (_ for _ in ()).throw(RuntimeError("database")))
    with pytest.raises(RuntimeError):
        submit_lines(caller)
    assert stored_files() == before


def test_a_job_that_was_taken_as_the_database_went_keeps_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = new_caller()

    @contextmanager
    def transaction_without_an_answer(*, patient: bool) -> Iterator[Connection]:
        with transaction(patient=patient) as connection:
            yield connection
        if rows("SELECT id FROM jobs"):
            raise Unavailable("the database went away")

    monkeypatch.setattr("core.submissions.transaction", transaction_without_an_answer)
    with pytest.raises(Unavailable):
        submit_lines(caller)
    ((job_id,),) = rows("SELECT id FROM jobs WHERE status = 'queued'")
    assert [key for key in stored_files() if str(job_id) in key]


def test_cancel_ends_what_is_unfinished_and_keeps_what_was_read() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 3)
    first = claims.claim("wrk_1", MODEL, most=1)
    outcomes.finish([read(first[0])])
    cancel(caller, job_id)
    with transaction() as connection:
        job = job_view(connection, caller, job_id)
    assert (job.status, job.text, job.lines_charged) == (Status.CANCELED, "irlandais", 1)
    assert [image.status for image in job.images] == [Status.SUCCEEDED, Status.CANCELED, Status.CANCELED]
    assert (job.held_micro, job.charged_micro) == (0, 1_000_000)
    assert_ledger_balances()


def test_a_job_that_ended_cannot_be_canceled() -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    cancel(caller, job_id)
    with pytest.raises(AlreadyFinished):
        cancel(caller, job_id)


def test_delete_removes_files_and_text_and_keeps_the_ledger() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2)
    outcomes.finish([read(claims.claim("wrk_1", MODEL, most=1)[0])])
    delete_job(caller, job_id)
    with pytest.raises(Gone), transaction() as connection:
        job_view(connection, caller, job_id)
    assert not [key for key in stored_files() if job_id in key]
    assert rows("SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM lines)") == [(0, 0)]
    assert {kind for (kind,) in rows("SELECT kind FROM ledger WHERE job_id = :id", id=job_id)} == {
        "hold",
        "capture",
        "release",
    }
    assert_ledger_balances()


def test_files_of_a_delete_that_was_cut_short_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    with monkeypatch.context() as cut_short:
        cut_short.setattr("core.job_files.purge", lambda _: None)
        delete_job(caller, job_id)
    with transaction() as connection:
        assert job_files.unpurged(connection) == [job_id]
    job_files.purge([job_id])
    with transaction() as connection:
        assert job_files.unpurged(connection) == []
    assert not [key for key in stored_files() if job_id in key]


def test_files_without_a_job_are_orphans_after_an_hour() -> None:
    young = submit_lines(new_caller())
    old = "job_" + "0" * 26  # made in 1970
    job_files.put_images(old, {"img_1": png()})
    assert job_files.delete_orphans() == [old]
    assert any(young in key for key in stored_files())


def test_another_accounts_job_is_not_found() -> None:
    job_id = submit_lines(new_caller("one"))
    stranger = new_caller("two")
    for act in (cancel, delete_job):
        with pytest.raises(NotFound):
            act(stranger, job_id)


def test_jobs_are_listed_newest_first_page_by_page() -> None:
    caller = new_caller()
    made = [submit_lines(caller) for _ in range(5)]
    submit_lines(new_caller("stranger"))
    with transaction() as connection:
        first = [job.id for job in list_jobs(connection, caller, before=None, most=3)]
        rest = [job.id for job in list_jobs(connection, caller, before=first[-1], most=3)]
    assert first + rest == sorted(made, reverse=True)


def test_the_queue_position_counts_what_is_more_urgent() -> None:
    caller = new_caller()
    submit_lines(caller, 4)
    last = submit_lines(caller)
    with transaction() as connection:
        assert job_view(connection, caller, last).queue_position == 4
