from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from core import claims, outcomes
from core.claims import Claim
from core.database import transaction
from core.jobs import cancel
from core.layouts import lay_out
from core.outcomes import Outcome
from core.states import Mode
from core.transcript import BoundingBox
from tests.domain import MODEL, assert_ledger_balances, new_caller, read_line, rows, submit_lines


def segmented(lines: int) -> list[BoundingBox]:
    """A segmenter of the tests' own: so many lines, one below the other."""
    return [BoundingBox(xmin=0, ymin=10 * line, xmax=40, ymax=10 * line + 8) for line in range(lines)]


def read_page(page: Claim, boxes: tuple[BoundingBox, ...] | None) -> None:
    assert boxes is not None
    lines = tuple(replace(read_line(), index=index, bbox=box) for index, box in enumerate(boxes))
    outcomes.finish([Outcome(image_id=page.image_id, job_id=page.job_id, attempt=page.attempt, lines=lines)])


def held_and_charged(job_id: str) -> tuple[object, ...]:
    return rows("SELECT held_micro / 1000000, charged_micro / 1000000 FROM jobs WHERE id = :id", id=job_id)[0]


@pytest.mark.parametrize(("mode", "held"), [(Mode.PAGE, 40), (Mode.AUTO, 1)])
def test_a_page_is_charged_for_the_lines_that_were_found_on_it(mode: Mode, held: int) -> None:
    job_id = submit_lines(new_caller(grant_credits=50), mode=mode)
    (page,) = claims.claim("wrk_1", MODEL, most=1)
    before = held_and_charged(job_id)
    boxes = lay_out(page, segmented(12))
    laid_out = held_and_charged(job_id)
    read_page(page, boxes)
    assert (before, laid_out, held_and_charged(job_id)) == ((held, 0), (12, 0), (0, 12))
    assert_ledger_balances()


def test_a_page_that_cannot_be_paid_fails_free_before_it_is_read() -> None:
    job_id = submit_lines(new_caller(grant_credits=11), mode=Mode.AUTO)
    (page,) = claims.claim("wrk_1", MODEL, most=1)
    assert lay_out(page, segmented(12)) is None
    assert rows("SELECT status, error_code FROM images") == [("failed", "insufficient_credits")]
    assert held_and_charged(job_id) == (0, 0)
    assert_ledger_balances()


def test_a_page_without_lines_is_free() -> None:
    job_id = submit_lines(new_caller(), mode=Mode.PAGE)
    (page,) = claims.claim("wrk_1", MODEL, most=1)
    read_page(page, lay_out(page, []))
    assert held_and_charged(job_id) == (0, 0)
    assert rows("SELECT status FROM jobs") == [("succeeded",)]
    assert_ledger_balances()


def test_a_page_is_laid_out_once_whatever_the_next_worker_finds() -> None:
    submit_lines(new_caller(), mode=Mode.PAGE)
    (lost,) = claims.claim("wrk_1", MODEL, most=1)
    lay_out(lost, segmented(3))
    claims.give_back([lost])
    (page,) = claims.claim("wrk_2", MODEL, most=1)
    assert lay_out(page, segmented(5)) == tuple(segmented(3))
    assert lay_out(lost, segmented(7)) is None
    assert_ledger_balances()


def test_a_page_that_is_laid_out_twice_at_once_moves_its_hold_once() -> None:
    submit_lines(new_caller(), mode=Mode.AUTO)
    (page,) = claims.claim("wrk_1", MODEL, most=1)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: lay_out(page, segmented(4)), range(4)))
    assert found == {tuple(segmented(4))}
    assert rows("SELECT kind, amount_micro FROM ledger WHERE reason = 'layout'") == [("hold", 3_000_000)]
    assert_ledger_balances()


def test_a_canceled_page_releases_what_it_was_topped_up_to() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2, mode=Mode.AUTO)
    lay_out(claims.claim("wrk_1", MODEL, most=1)[0], segmented(30))
    cancel(caller, job_id)
    assert held_and_charged(job_id) == (0, 0)
    assert_ledger_balances()


def test_pages_that_are_topped_up_at_once_never_spend_more_than_there_is() -> None:
    submit_lines(new_caller(grant_credits=45), 8, mode=Mode.AUTO)
    pages = claims.claim("wrk_1", MODEL, most=8)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda page: lay_out(page, segmented(10)), pages))
    with transaction() as connection:
        balance, held = connection.execute(text("SELECT balance_micro, held_micro FROM accounts")).one()
    paid = sum(boxes is not None for boxes in found)
    assert paid >= 4  # at worst 8 wait with one line each: 45 - 8 = 37 = 4 x 9 + 1
    assert (balance, held) == (45_000_000, paid * 10_000_000)
    assert_ledger_balances()
