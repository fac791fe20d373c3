from __future__ import annotations

from pathlib import Path

import pytest

from core import claims, outcomes
from core.accounts import Caller
from core.database import transaction
from core.errors import InvalidImage, NotFound
from core.jobs import delete_job
from core.outcomes import Outcome
from core.prices import PriceList
from core.receipts import Receipt, receipt
from core.settings import settings
from core.states import Priority
from core.transcript import Flag
from tests.domain import MODEL, new_caller, read, rows, submit_lines


def receipt_of(caller: Caller, job_id: str) -> Receipt:
    with transaction() as connection:
        return receipt(connection, caller, job_id)


def kinds(bill: Receipt) -> list[tuple[str, int]]:
    return [(entry.kind.value, entry.amount_micro) for entry in bill.entries]


def test_a_receipt_holds_every_entry_of_its_job_and_the_grant_that_paid() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 3)
    good, bad, blank = claims.claim("wrk_1", MODEL, most=3)
    broken = Outcome(image_id=bad.image_id, job_id=job_id, attempt=bad.attempt, error=InvalidImage())
    outcomes.finish([read(good), broken, read(blank, "", flags=[Flag.BLANK])])
    bill = receipt_of(caller, job_id)
    assert kinds(bill) == [("hold", 3_000_000), ("capture", 1_000_000), ("release", 1_000_000), ("release", 1_000_000)]
    assert (bill.lines, bill.charged_micro, bill.held_micro) == (1, 1_000_000, 0)
    assert rows("SELECT id FROM credit_grants") == [(bill.entries[1].paid_by[0].grant_id,)]


def test_a_bulk_line_costs_half() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2, priority=Priority.BULK)
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=2)])
    assert receipt_of(caller, job_id).charged_micro == 1_000_000


def test_the_price_at_submission_is_charged_whatever_the_list_says_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    dearer = tmp_path / "prices.toml"
    dearer.write_text(settings().prices.read_text().replace("normal = 1,", "normal = 9,").replace("2026-11", "next"))
    monkeypatch.setattr("core.new_jobs.price_list", lambda: PriceList(dearer))
    later = submit_lines(caller)
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=2)])
    bills = [receipt_of(caller, job_id), receipt_of(caller, later)]
    assert [(bill.price.version, bill.charged_micro) for bill in bills] == [("2026-11", 1_000_000), ("next", 9_000_000)]


def test_a_receipt_outlives_its_job() -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    delete_job(caller, job_id)
    assert kinds(receipt_of(caller, job_id)) == [("hold", 1_000_000), ("release", 1_000_000)]


def test_another_accounts_receipt_is_not_found() -> None:
    job_id = submit_lines(new_caller("one"))
    with pytest.raises(NotFound):
        receipt_of(new_caller("two"), job_id)
