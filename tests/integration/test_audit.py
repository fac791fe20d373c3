from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from typer.testing import CliRunner

from cli.main import app
from core import accounts, claims, identification, outcomes
from core.accounts import Caller
from core.audit import audit
from core.credits import Entry, EntryKind, post
from core.database import transaction
from core.jobs import cancel, delete_job
from core.transcript import Flag
from tests.domain import MODEL, assert_ledger_balances, new_caller, read, rows, submit_lines
from worker.sweeper import Sweeper


@pytest.fixture
def caller() -> Caller:
    """An account with jobs in every state."""
    account_id = new_caller(grant_credits=100).account_id
    with transaction() as connection:
        key = accounts.create_key(connection, account_id=account_id, name="test")
        caller = identification.caller_of(connection, key)
    submit_lines(caller, 3)
    first, second, _ = claims.claim("wrk_1", MODEL, most=3)
    outcomes.finish([read(first), read(second, "", flags=[Flag.BLANK])])
    cancel(caller, submit_lines(caller, 2))
    delete_job(caller, submit_lines(caller, 2))
    submit_lines(caller)
    return caller


def command(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", *words])
    return result.exit_code, result.output


def execute(statement: str) -> None:
    with transaction() as connection:
        connection.execute(text(statement))


def orphan_hold(caller: Caller, micro: int = 5_000_000) -> None:
    """What no path of the service leaves: a hold without its job."""
    entry = Entry(
        account_id=caller.account_id,
        kind=EntryKind.HOLD,
        amount_micro=micro,
        job_id="job_" + "0" * 26,
        key_id=caller.key_id,
    )
    with transaction() as connection:
        post(connection, [entry])


def test_a_service_that_did_all_it_can_is_clean(caller: Caller) -> None:
    del caller
    assert command() == (0, "ledger, jobs, keys and grants agree\n")


DAMAGES = [
    ("UPDATE accounts SET balance_micro = balance_micro + 1", "an account's balance is not the sum of its entries"),
    ("UPDATE accounts SET held_micro = held_micro + 1", "an account's held part is not the sum of its entries"),
    (
        "UPDATE accounts SET stored_bytes = stored_bytes + 1",
        "an account's stored bytes are not those of its jobs and files",
    ),
    ("UPDATE credit_grants SET remaining_micro = 0", "what is left of a grant is not its amount less what it paid"),
    ("UPDATE api_keys SET held_micro = held_micro + 1", "a key's held part is not the sum of its entries"),
    ("UPDATE api_keys SET stored_bytes = stored_bytes + 1", "a key's stored bytes are not those of its jobs"),
    ("DELETE FROM key_months", "a key's month is not the sum of its captures"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_a_total_that_is_wrong_is_named_and_repaired_from_the_ledger(caller: Caller, damage: str, said: str) -> None:
    del caller
    execute(damage)
    status, output = command()
    assert (status, said in output) == (1, True)
    assert command("--repair") == (0, "ledger, jobs, keys and grants agree\n")
    assert_ledger_balances()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE jobs SET charged_micro = 9 WHERE charged_micro > 0", "a job's charge is not the sum of its captures"),
        ("UPDATE jobs SET lines_charged = 9 WHERE charged_micro > 0", "a job's charge is not its lines at its price"),
        ("UPDATE images SET status = 'failed'", "an image was charged that was not read"),
        ("UPDATE images SET held_micro = 9", "a job holds something else than its unfinished images"),
    ],
)
def test_a_job_that_disagrees_with_the_ledger_is_named(caller: Caller, damage: str, said: str) -> None:
    del caller
    execute(damage)
    with transaction() as connection:
        assert said in {finding.check for finding in audit(connection)}


def test_a_hold_without_a_job_is_named_and_released_by_the_sweeper(caller: Caller) -> None:
    orphan_hold(caller)
    assert "credits are held for a job that is not there" in command()[1]
    before = REGISTRY.get_sample_value("inkqueue_stale_holds_total") or 0
    Sweeper().sweep()
    assert REGISTRY.get_sample_value("inkqueue_stale_holds_total") == before + 1
    assert command()[0] == 0
    assert rows("SELECT kind, amount_micro FROM ledger WHERE reason = 'stale hold'") == [("release", 5_000_000)]


def test_a_hold_of_a_job_that_has_ended_is_released_once(caller: Caller) -> None:
    job_id = submit_lines(caller, 4)
    execute(f"UPDATE jobs SET status = 'failed' WHERE id = '{job_id}'")
    execute(f"UPDATE images SET status = 'failed' WHERE job_id = '{job_id}'")
    for _ in range(2):
        Sweeper().sweep()
    assert rows("SELECT count(*), sum(amount_micro) FROM ledger WHERE reason = 'stale hold'") == [(1, 4_000_000)]
    assert command()[0] == 0


def test_running_jobs_keep_what_they_hold(caller: Caller) -> None:
    orphan_hold(caller)
    held = rows("SELECT id, held_micro FROM jobs ORDER BY id")
    Sweeper().sweep()
    assert rows("SELECT id, held_micro FROM jobs ORDER BY id") == held
