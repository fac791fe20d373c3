from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from core import credits, grants, outcomes
from core.accounts import Caller
from core.amounts import CREDIT_MICRO
from core.claims import claim
from core.database import transaction
from core.errors import InsufficientCredits
from core.grants import Category, Terms
from core.jobs import cancel
from core.states import Priority
from tests.domain import MODEL, assert_ledger_balances, new_caller, read, rows, submit_lines
from worker.sweeper import Sweeper

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def grant(caller: Caller, amount: int, **terms: object) -> str:
    with transaction() as connection:
        return credits.grant(
            connection,
            account_id=caller.account_id,
            amount_micro=amount * CREDIT_MICRO,
            reason="test",
            terms=Terms(**terms),  # type: ignore[arg-type]
        )


def totals(caller: Caller) -> tuple[int, int]:
    with transaction() as connection:
        have = credits.credit(connection, caller.account_id)
    return have.balance_micro // CREDIT_MICRO, have.held_micro // CREDIT_MICRO


def read_lines(caller: Caller, lines: int) -> None:
    submit_lines(caller, lines)
    outcomes.finish([read(found) for found in claim("wrk_1", MODEL, most=lines)])


def let_pass(grant_id: str) -> None:
    with transaction() as connection:
        connection.execute(text("UPDATE credit_grants SET expires_at = now() WHERE id = :id"), {"id": grant_id})


def paid_by(*grant_ids: str) -> list[int]:
    query = "SELECT coalesce(sum(amount_micro), 0)::bigint / 1000000 FROM grant_spends WHERE grant_id = :id"
    return [int(str(rows(query, id=grant_id)[0][0])) for grant_id in grant_ids]


@pytest.mark.parametrize("table", ["ledger", "grant_spends"])
@pytest.mark.parametrize("change", ["UPDATE {} SET amount_micro = 0", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_database_refuses_to_change_what_was_written(table: str, change: str) -> None:
    read_lines(new_caller(), 1)
    with pytest.raises(IntegrityError, match="append-only"), transaction() as connection:
        connection.execute(text(change.format(table)))


def test_the_grant_that_expires_soonest_pays_first() -> None:
    caller = new_caller(grant_credits=0)
    never, late, soon = (grant(caller, 2, expires_at=end) for end in (None, NOW + 9 * DAY, NOW + DAY))
    read_lines(caller, 3)
    assert paid_by(soon, late, never) == [2, 1, 0]
    assert_ledger_balances()


def test_among_grants_that_end_together_priority_then_gift_then_age_decides() -> None:
    caller = new_caller(grant_credits=0)
    paid = grant(caller, 1, category=Category.PAID)
    gift, younger_gift = grant(caller, 1), grant(caller, 1)
    urgent = grant(caller, 1, category=Category.PAID, priority=-1)
    order = []
    for _ in range(4):
        read_lines(caller, 1)
        order.append(paid_by(urgent, gift, younger_gift, paid))
    assert order == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_grant_of_tomorrow_cannot_be_spent_today() -> None:
    caller = new_caller(grant_credits=0)
    grant(caller, 5, effective_at=NOW + DAY)
    assert totals(caller) == (0, 0)
    with pytest.raises(InsufficientCredits):
        submit_lines(caller)


def test_a_grant_can_be_spent_from_its_beginning_before_any_sweep() -> None:
    caller = new_caller(grant_credits=0)
    later = grant(caller, 5, effective_at=NOW + DAY)
    with transaction() as connection:
        connection.execute(text("UPDATE credit_grants SET effective_at = now() WHERE id = :id"), {"id": later})
    submit_lines(caller, 5)
    assert totals(caller) == (5, 5)
    assert_ledger_balances()


def test_the_sweeper_expires_what_is_left_of_a_grant() -> None:
    caller = new_caller(grant_credits=10)
    ending = grant(caller, 5, expires_at=NOW + DAY)
    read_lines(caller, 2)
    let_pass(ending)
    Sweeper().sweep()
    assert totals(caller) == (10, 0)  # 15 - 2 read - 3 expired
    assert rows("SELECT amount_micro FROM ledger WHERE kind = 'expire'") == [(3_000_000,)]
    assert_ledger_balances()


def test_who_submits_before_the_sweep_cannot_spend_what_is_over() -> None:
    caller = new_caller(grant_credits=0)
    let_pass(grant(caller, 5, expires_at=NOW + DAY))
    with pytest.raises(InsufficientCredits):
        submit_lines(caller)


def test_credits_that_a_job_held_before_their_end_still_pay_for_it() -> None:
    caller = new_caller(grant_credits=0)
    ending = grant(caller, 5, expires_at=NOW + DAY)
    submit_lines(caller, 3)
    let_pass(ending)
    Sweeper().sweep()
    assert totals(caller) == (3, 3)
    outcomes.finish([read(found) for found in claim("wrk_1", MODEL, most=3)])
    assert (totals(caller), paid_by(ending)) == ((0, 0), [5])  # 3 read, 2 expired
    assert_ledger_balances()


def test_held_credits_that_come_back_after_their_end_expire() -> None:
    caller = new_caller(grant_credits=0)
    ending = grant(caller, 5, expires_at=NOW + DAY)
    job_id = submit_lines(caller, 3)
    let_pass(ending)
    cancel(caller, job_id)
    Sweeper().sweep()
    assert totals(caller) == (0, 0)
    with transaction() as connection:
        assert grants.accounts_with_due(connection, most=10) == []
    assert_ledger_balances()


def test_a_job_that_comes_after_their_end_keeps_no_credits_that_one_before_it_held() -> None:
    caller = new_caller(grant_credits=10)
    ending = grant(caller, 5, expires_at=NOW + DAY)
    before = submit_lines(caller, 3)
    let_pass(ending)
    submit_lines(caller, 4)
    assert totals(caller) == (13, 7)
    cancel(caller, before)
    Sweeper().sweep()
    assert totals(caller) == (10, 4)
    assert_ledger_balances()


def test_a_later_job_is_not_paid_by_what_an_earlier_one_keeps() -> None:
    caller = new_caller(grant_credits=0)
    ending, never = grant(caller, 5, expires_at=NOW + DAY), grant(caller, 6)
    before = submit_lines(caller, 5)
    let_pass(ending)
    submit_lines(caller, 4, priority=Priority.INTERACTIVE)  # 1.5 each, and read first
    outcomes.finish([read(found) for found in claim("wrk_1", MODEL, most=4)])
    assert (totals(caller), paid_by(ending, never)) == ((5, 5), [0, 6])
    cancel(caller, before)
    Sweeper().sweep()
    assert totals(caller) == (0, 0)
    assert_ledger_balances()


def test_grants_that_end_one_after_another_keep_what_was_held_before_each() -> None:
    caller = new_caller(grant_credits=0)
    first, second = (grant(caller, 5, expires_at=NOW + days * DAY) for days in (1, 2))
    submit_lines(caller, 4)
    let_pass(first)
    submit_lines(caller, 3)
    assert totals(caller) == (9, 7)  # of the first one, 4 are kept
    let_pass(second)
    Sweeper().sweep()
    assert totals(caller) == (7, 7)  # and of the second 3
    outcomes.finish([read(found) for found in claim("wrk_1", MODEL, most=7)])
    assert (totals(caller), paid_by(first, second)) == ((0, 0), [5, 5])
    assert_ledger_balances()


def test_what_is_held_by_nobody_known_does_not_expire() -> None:
    caller = new_caller(grant_credits=0)
    ending = grant(caller, 5, expires_at=NOW + DAY)
    submit_lines(caller, 3)
    with transaction() as connection:
        connection.execute(text("UPDATE jobs SET held_micro = 0"))
    let_pass(ending)
    Sweeper().sweep()
    assert totals(caller) == (3, 3)


def test_a_negative_correction_is_borne_by_grants() -> None:
    caller = new_caller(grant_credits=10)
    entry = credits.Entry(account_id=caller.account_id, kind=credits.EntryKind.ADJUST, amount_micro=-4_000_000)
    with transaction() as connection:
        credits.post(connection, [entry])
    assert totals(caller) == (6, 0)
    assert_ledger_balances()
