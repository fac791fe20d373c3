from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.main import app
from core import job_files, jobs, retention
from core.accounts import Caller
from core.database import transaction
from core.retention import delete_kept_too_long, forget_batches_kept_too_long, set_retention
from core.settings import settings
from tests.domain import assert_ledger_balances, ended_batch, new_caller, rows, submit_lines


def ended_days_ago(caller: Caller, days: float) -> str:
    job_id = submit_lines(caller)
    jobs.cancel(caller, job_id)
    rows(
        "UPDATE jobs SET finished_at = now() - :days * interval '1 day' WHERE id = :id RETURNING id",
        id=job_id,
        days=days,
    )
    return job_id


def swept() -> list[str]:
    with transaction() as connection:
        return delete_kept_too_long(connection)


def forgotten() -> bool:
    with transaction() as connection:
        return forget_batches_kept_too_long(connection)


@pytest.fixture
def thirty_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.retention.settings", lambda: settings().model_copy(update={"retention_days": 30.0}))


@pytest.mark.usefixtures("thirty_days")
def test_what_was_kept_long_enough_is_deleted_and_the_ledger_stays() -> None:
    caller = new_caller()
    old, young = ended_days_ago(caller, 31), ended_days_ago(caller, 29)
    running = submit_lines(caller)
    assert swept() == [old]
    assert {job_id for (job_id,) in rows("SELECT DISTINCT job_id FROM images")} == {young, running}
    assert rows("SELECT count(*) FROM ledger WHERE job_id = :id", id=old) == [(2,)]
    assert swept() == []
    with transaction() as connection:
        assert job_files.unpurged(connection) == [old]
    assert_ledger_balances()


def test_jobs_are_kept_for_ever_if_nothing_else_is_said() -> None:
    ended_days_ago(new_caller(), 10_000)
    assert swept() == []


@pytest.mark.usefixtures("thirty_days")
def test_an_accounts_own_rule_goes_before_the_services() -> None:
    short, forever = new_caller("short"), new_caller("forever")
    with transaction() as connection:
        set_retention(connection, short.account_id, 1)
        set_retention(connection, forever.account_id, 0)
    old = ended_days_ago(short, 2)
    ended_days_ago(forever, 10_000)
    assert swept() == [old]


@pytest.mark.usefixtures("thirty_days")
def test_what_a_batch_held_is_forgotten_when_it_was_kept_long_enough_and_its_entry_stays() -> None:
    caller = new_caller()
    old, young, going_on = ended_batch(caller, 31), ended_batch(caller, 29), ended_batch(caller, 31)
    rows("UPDATE batches SET status = 'finalizing', completed_at = NULL WHERE id = :id RETURNING id", id=going_on)
    rows("UPDATE batches SET errors = '[]' RETURNING id")
    assert [forgotten(), forgotten()] == [True, False]
    assert {batch_id for (batch_id,) in rows("SELECT DISTINCT batch_id FROM batch_requests")} == {young, going_on}
    assert rows(
        "SELECT status, requests_total, requests_failed, caller_metadata, errors FROM batches WHERE id = :id", id=old
    ) == [("completed", 3, 3, {}, None)]
    kept = rows('SELECT id FROM batches WHERE caller_metadata = \'{"box": "12"}\' AND errors IS NOT NULL ORDER BY id')
    assert kept == [(young,), (going_on,)]


@pytest.mark.parametrize("way", ["failed_at", "expired_at", "cancelled_at"])
@pytest.mark.usefixtures("thirty_days")
def test_a_batch_is_forgotten_whatever_way_it_ended(way: str) -> None:
    ended_batch(new_caller(), 31)
    status = way.removesuffix("_at")
    rows(f"UPDATE batches SET {way} = completed_at, completed_at = NULL, status = '{status}' RETURNING id")
    assert forgotten()
    assert rows("SELECT count(*) FROM batch_requests") == [(0,)]


@pytest.mark.usefixtures("thirty_days")
def test_the_requests_of_a_batch_go_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_REQUESTS_A_ROUND", 2)
    ended_batch(new_caller(), 31, requests=5)
    left = []
    while forgotten():
        left += rows("SELECT count(*) FROM batch_requests")
    assert left == [(3,), (1,), (0,)]


def test_batches_are_kept_for_ever_if_nothing_else_is_said_and_by_an_accounts_own_rule() -> None:
    ended_batch(new_caller(), 10_000)
    assert not forgotten()
    short = new_caller("short")
    with transaction() as connection:
        set_retention(connection, short.account_id, 1)
    ended_batch(short, 2)
    assert forgotten()
    assert rows("SELECT count(*) FROM batch_requests") == [(3,)]


@pytest.mark.parametrize(
    ("days", "said", "kept"), [("7", "for 7 days", 7.0), ("0", "for ever", 0.0), ("default", "setting", None)]
)
def test_the_operator_says_how_long_an_account_keeps_its_jobs(days: str, said: str, kept: float | None) -> None:
    new_caller("archive")
    result = CliRunner().invoke(app, ["retention", "archive", days])
    assert (result.exit_code, said in result.output) == (0, True)
    assert rows("SELECT retention_days FROM accounts") == [(kept,)]


def test_the_retention_of_nobody_or_of_no_number_is_refused() -> None:
    assert CliRunner().invoke(app, ["retention", "nobody", "1"]).exit_code == 1
    assert CliRunner().invoke(app, ["retention", "nobody", "week"]).exit_code == 2
