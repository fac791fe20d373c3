"""A job's receipt: what it was charged, by which prices, and every ledger entry that it left."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from core.accounts import Caller
from core.errors import NotFound
from core.job_tables import JobRow
from core.ledger_views import EntryView, list_entries
from core.prices import Price
from core.states import Mode, Priority

#: More than the entries of the largest job: one hold, and for each image a capture, a release and a layout.
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a job cost; its sums are those of its entries."""

    job_id: str
    model: str
    mode: Mode
    priority: Priority
    beams: int
    price: Price
    lines: int
    charged_micro: int
    held_micro: int
    #: Oldest first.
    entries: tuple[EntryView, ...]


def receipt(connection: Connection, caller: Caller, job_id: str) -> Receipt:
    """The receipt of one of the caller's jobs, deleted ones too.

    Raises:
        NotFound: The account has no such job.
    """
    row = connection.execute(
        select(JobRow.__table__).where(JobRow.id == job_id, JobRow.account_id == caller.account_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    entries = list_entries(connection, caller.account_id, before=None, most=_MOST_ENTRIES, job_id=job_id)
    return Receipt(
        job_id=job_id,
        model=row.model,
        mode=Mode(row.mode),
        priority=Priority(row.priority),
        beams=row.beams,
        price=Price(line_micro=row.line_price_micro, version=row.price_version),
        lines=row.lines_charged,
        charged_micro=row.charged_micro,
        held_micro=row.held_micro,
        entries=tuple(reversed(entries)),
    )
