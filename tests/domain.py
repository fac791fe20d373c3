"""What tests say in the words of the service: an account with credits, a job of lines, a line that was read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from PIL import Image
from sqlalchemy import func, insert, text

from core import accounts, credits
from core.accounts import Caller, KeyTerms
from core.amounts import CREDIT_MICRO
from core.batch_tables import BatchRequestRow, BatchRow
from core.claims import Claim
from core.database import transaction
from core.ids import new_id
from core.images import inspect_image
from core.intake import submit
from core.new_jobs import NewImage, NewJob
from core.outcomes import Outcome
from core.reading_options import ReadingOptions
from core.retries import retry_of
from core.states import Mode, Priority
from core.transcript import BoundingBox, Flag, Line
from core.webhooks import JobWebhook

MODEL = "fake"


def png(width: int = 40, height: int = 8) -> bytes:
    """A small picture with ink."""
    image = Image.new("L", (width, height), "white")
    image.paste(0, (4, 2, 12, 6))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def new_caller(name: str = "archive", *, grant_credits: int = 1000) -> Caller:
    """An account with so many credits."""
    with transaction() as connection:
        account_id = accounts.ensure_account(connection, name)
        start = credits.credit(connection, account_id).balance_micro
        adjustment = grant_credits * CREDIT_MICRO - start
        if adjustment:
            entry = credits.Entry(account_id=account_id, kind=credits.EntryKind.ADJUST, amount_micro=adjustment)
            credits.post(connection, [entry])
    return Caller(account_id=account_id, key_id="key_test")


def new_key(account: str = "archive", terms: KeyTerms | None = None) -> str:
    """A key of an account, which is made with its sign-up grant if it is not there."""
    with transaction() as connection:
        account_id = accounts.ensure_account(connection, account)
        return accounts.create_key(connection, account_id=account_id, name="test", terms=terms)


def submit_lines(
    caller: Caller,
    lines: int = 1,
    *,
    priority: Priority = Priority.NORMAL,
    model: str = MODEL,
    data: bytes | None = None,
    mode: Mode = Mode.AUTO,
    webhook: JobWebhook | None = None,
    deadline_s: float | None = None,
    beams: int = 1,
) -> str:
    """A job of so many lines, or pages of at most 40; its id."""
    data = data or png()
    header = inspect_image(data, max_bytes=10**7, max_pixels=10**7)
    images = [NewImage(data=data, header=header, key=f"line-{index}") for index in range(lines)]
    return submit(
        caller,
        NewJob(
            model=model,
            mode=mode,
            priority=priority,
            max_lines=40,
            metadata={},
            images=images,
            webhook=webhook,
            deadline_s=deadline_s,
            reading=ReadingOptions(beams=beams),
        ),
    ).id


def retry(caller: Caller, job_id: str) -> str:
    """Submit what a job did not read; the new job's id."""
    return submit(caller, retry_of(caller, job_id, choose_model=lambda model, _: model)).id


def ended_batch(caller: Caller, days: float, *, requests: int = 3) -> str:
    """A batch that was written so many days ago, and whose requests all failed; its id."""
    batch_id = new_id("batch")
    failed = {"batch_id": batch_id, "outcome": "failed", "error_status": 400, "error": {"message": "no image"}}
    with transaction() as connection:
        connection.execute(
            insert(BatchRow).values(
                id=batch_id,
                account_id=caller.account_id,
                key_id=caller.key_id,
                endpoint="/v1/chat/completions",
                input_file_id=new_id("file"),
                status="completed",
                caller_metadata={"box": "12"},
                expires_at=func.now(),
                completed_at=func.now() - timedelta(days=days),
                requests_total=requests,
                requests_failed=requests,
            )
        )
        lines = [failed | {"line": line, "custom_id": f"line-{line}"} for line in range(1, requests + 1)]
        connection.execute(insert(BatchRequestRow), lines)
    return batch_id


def read_line(text_read: str = "irlandais", *, flags: Sequence[Flag] = ()) -> Line:
    """A line as a recognizer gives it."""
    return Line(
        index=0,
        text=text_read,
        confidence=0.9,
        bbox=BoundingBox(xmin=0, ymin=0, xmax=40, ymax=8),
        flags=tuple(flags),
        words=(),
    )


def read(claim: Claim, text_read: str = "irlandais", *, flags: Sequence[Flag] = ()) -> Outcome:
    """The outcome of a claim whose image was read."""
    return Outcome(
        image_id=claim.image_id,
        job_id=claim.job_id,
        attempt=claim.attempt,
        lines=(read_line(text_read, flags=flags),),
    )


def rows(query: str, **parameters: object) -> list[tuple[object, ...]]:
    """What the database says."""
    with transaction() as connection:
        return [tuple(row) for row in connection.execute(text(query), parameters)]


def assert_ledger_balances() -> None:
    """Every account's totals are the sums of its entries, and what jobs hold is what accounts hold."""
    signs = {kind.value: effect for kind, effect in credits.EFFECT.items()}
    totals: dict[object, list[int]] = {account: [0, 0] for (account,) in rows("SELECT id FROM accounts")}
    for account, kind, amount in rows("SELECT account_id, kind, amount_micro FROM ledger"):
        assert isinstance(amount, int)
        balance_sign, held_sign = signs[str(kind)]
        totals[account][0] += balance_sign * amount
        totals[account][1] += held_sign * amount
    for account, balance, held in rows("SELECT id, balance_micro, held_micro FROM accounts"):
        assert [balance, held] == totals[account]
        assert rows("SELECT coalesce(sum(held_micro), 0) FROM jobs WHERE account_id = :id", id=account) == [(held,)]
        assert rows(
            "SELECT coalesce(sum(remaining_micro), 0) FROM credit_grants "
            "WHERE account_id = :id AND posted_at IS NOT NULL",
            id=account,
        ) == [(balance,)]
    assert not rows(
        "SELECT api_keys.id FROM api_keys LEFT JOIN ledger "
        "ON key_id = api_keys.id AND kind IN ('hold', 'capture', 'release') GROUP BY api_keys.id "
        "HAVING coalesce(sum(CASE kind WHEN 'hold' THEN amount_micro ELSE -amount_micro END), 0) <> held_micro"
    )
    assert rows("SELECT key_id, sum(captured_micro) FROM key_months GROUP BY 1 ORDER BY 1") == rows(
        "SELECT key_id, sum(amount_micro) FROM ledger WHERE kind = 'capture' GROUP BY 1 ORDER BY 1"
    )
    assert not rows(
        "SELECT id FROM credit_grants LEFT JOIN grant_spends ON grant_id = id GROUP BY id "
        "HAVING credit_grants.amount_micro - coalesce(sum(grant_spends.amount_micro), 0) <> remaining_micro"
    )


@contextmanager
def schema_of(revision: str) -> Iterator[None]:
    """The database says that its schema is of another version."""
    with transaction() as connection:
        newest = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(text("UPDATE alembic_version SET version_num = :old"), {"old": revision})
    try:
        yield
    finally:
        with transaction() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": newest})
