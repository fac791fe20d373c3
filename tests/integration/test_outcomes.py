from __future__ import annotations

from core.claims import Claim, claim
from core.database import transaction
from core.errors import InvalidImage
from core.job_views import job_view
from core.outcomes import Outcome, finish
from core.states import Status
from core.transcript import Flag
from tests.domain import MODEL, assert_ledger_balances, new_caller, read, rows, submit_lines


def failed(claimed: Claim) -> Outcome:
    return Outcome(
        image_id=claimed.image_id, job_id=claimed.job_id, attempt=claimed.attempt, error=InvalidImage("truncated")
    )


def test_a_job_succeeds_when_all_its_images_do() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2)
    taken = claim("wrk_1", MODEL, most=2)
    finish([read(found, f"line {index}") for index, found in enumerate(taken)])
    with transaction() as connection:
        job = job_view(connection, caller, job_id)
    assert (job.status, job.text, job.charged_micro, job.held_micro) == (
        Status.SUCCEEDED,
        "line 0\nline 1",
        2_000_000,
        0,
    )
    assert_ledger_balances()


def test_a_job_is_partial_when_some_of_its_images_fail_and_only_the_read_ones_are_charged() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2)
    good, bad = claim("wrk_1", MODEL, most=2)
    finish([read(good), failed(bad)])
    with transaction() as connection:
        job = job_view(connection, caller, job_id)
    assert (job.status, job.charged_micro) == (Status.PARTIAL, 1_000_000)
    assert job.images[1].error is not None and job.images[1].error.code == "invalid_image"
    assert_ledger_balances()


def test_a_job_fails_free_when_all_its_images_do() -> None:
    caller = new_caller(grant_credits=5)
    job_id = submit_lines(caller)
    finish([failed(claim("wrk_1", MODEL, most=1)[0])])
    with transaction() as connection:
        job = job_view(connection, caller, job_id)
    assert (job.status, job.charged_micro) == (Status.FAILED, 0)
    assert job.error is not None and job.error.message == "truncated"
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(5_000_000, 0)]


def test_a_blank_line_is_free() -> None:
    caller = new_caller(grant_credits=5)
    job_id = submit_lines(caller)
    finish([read(claim("wrk_1", MODEL, most=1)[0], "", flags=[Flag.BLANK])])
    with transaction() as connection:
        job = job_view(connection, caller, job_id)
    assert (job.status, job.lines_charged, job.text) == (Status.SUCCEEDED, 0, "")
    assert rows("SELECT balance_micro FROM accounts") == [(5_000_000,)]


def test_an_outcome_that_comes_twice_is_charged_once() -> None:
    submit_lines(new_caller(grant_credits=5))
    outcome = read(claim("wrk_1", MODEL, most=1)[0])
    finish([outcome])
    finish([outcome])
    assert rows("SELECT balance_micro FROM accounts") == [(4_000_000,)]
    assert_ledger_balances()


def test_outcomes_of_several_jobs_and_accounts_end_in_one_transaction() -> None:
    callers = [new_caller("one"), new_caller("two")]
    for caller in callers:
        submit_lines(caller, 2)
    finish([read(found) for found in claim("wrk_1", MODEL, most=4)])
    assert rows("SELECT DISTINCT status FROM jobs") == [("succeeded",)]
    assert rows("SELECT count(DISTINCT xmin::text) FROM lines") == [(1,)]
    assert_ledger_balances()


def test_each_change_raises_the_version() -> None:
    job_id = submit_lines(new_caller(), 2)
    versions = [rows("SELECT version FROM jobs WHERE id = :id", id=job_id)]
    for _ in range(2):
        finish([read(claim("wrk_1", MODEL, most=1)[0])])
        versions.append(rows("SELECT version FROM jobs WHERE id = :id", id=job_id))
    assert versions == sorted(versions) and len(set(map(str, versions))) == 3
