from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.main import app
from core import accounts, identification
from core.database import transaction
from core.errors import InvalidApiKey
from tests.domain import assert_ledger_balances, new_caller, rows, submit_lines


def inkqueue(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_an_account_is_made_once_with_its_sign_up_grant() -> None:
    assert inkqueue("accounts", "create", "archive")[1] == inkqueue("accounts", "create", "archive")[1]
    assert rows("SELECT balance_micro FROM accounts") == [(1000_000_000,)]
    assert "archive" in inkqueue("accounts", "list")[1]


def test_a_grant_is_given_with_its_terms_and_shown_in_the_balance() -> None:
    new_caller("archive", grant_credits=0)
    status, said = inkqueue("credits", "grant", "archive", "2.5", "--expires", "2999-01-01", "--reason", "a gift")
    assert (status, said) == (0, "archive has 2.5 credits available\n")
    shown = inkqueue("credits", "balance", "archive")[1]
    assert "balance 2.5, held 0, available 2.5" in shown
    assert all(word in shown for word in ("2999-01-01 00:00", "a gift", "paid"))
    assert_ledger_balances()


def test_a_grant_of_the_future_is_shown_and_cannot_be_spent_yet() -> None:
    new_caller("archive", grant_credits=0)
    said = inkqueue("credits", "grant", "archive", "7", "--effective", "2999-01-01")[1]
    assert said == "archive has 0 credits available\n"
    assert "2999-01-01" in inkqueue("credits", "balance", "archive")[1]


@pytest.mark.parametrize("amount", ["0", "-1", "0.0000001", "many", "nan", "inf"])
def test_what_is_no_amount_of_credits_is_refused(amount: str) -> None:
    new_caller("archive")
    assert inkqueue("credits", "grant", "--", "archive", amount)[0] == 2


def test_the_ledger_is_shown_newest_first() -> None:
    job_id = submit_lines(new_caller("archive"), 2)
    shown = inkqueue("credits", "ledger", "archive")[1]
    assert shown.index("hold") < shown.index("grant") and job_id in shown


def test_the_keys_of_a_suspended_account_are_refused_until_it_is_let_in_again() -> None:
    with transaction() as connection:
        key = accounts.create_key(connection, account_id=accounts.ensure_account(connection, "archive"), name="test")
    inkqueue("accounts", "suspend", "archive")
    with pytest.raises(InvalidApiKey, match="suspended"), transaction() as connection:
        identification.caller_of(connection, key)
    inkqueue("accounts", "suspend", "archive", "--undo")
    with transaction() as connection:
        assert identification.caller_of(connection, key)


@pytest.mark.parametrize(
    ("typed", "said", "kept"),
    [
        ("2.5", "archive is warned below 2.5 credits\n", 2_500_000),
        ("0", "archive is never warned\n", 0),
        ("default", "archive is warned as the service's setting says\n", None),
    ],
)
def test_an_account_is_warned_of_low_credits_as_its_operator_says(typed: str, said: str, kept: int | None) -> None:
    new_caller("archive")
    assert inkqueue("accounts", "low-credits", "archive", typed) == (0, said)
    assert rows("SELECT low_credits_micro FROM accounts") == [(kept,)]
    assert typed in inkqueue("accounts", "list")[1]


def test_an_account_that_is_not_there_is_said() -> None:
    assert inkqueue("credits", "balance", "nobody") == (1, "inkqueue: there is no account named nobody\n")


def test_a_key_is_made_with_its_terms() -> None:
    key = inkqueue("keys", "create", "--scope", "jobs", "--monthly-cap", "2.5", "--expires", "2999-01-01")[1].strip()
    with transaction() as connection:
        assert identification.caller_of(connection, key).scopes == {"jobs"}
    assert rows("SELECT monthly_cap_micro, expires_at::date::text FROM api_keys") == [(2_500_000, "2999-01-01")]


@pytest.mark.parametrize("cap", ["0", "all"])
def test_a_key_without_a_cap_that_is_one_is_not_made(cap: str) -> None:
    assert inkqueue("keys", "create", "--monthly-cap", cap)[0] == 2
    assert rows("SELECT count(*) FROM api_keys") == [(0,)]
