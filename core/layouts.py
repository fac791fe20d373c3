"""The lines of a page: written down once, with the page's hold brought to what they cost, before any model call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from core import credits, notices
from core.claims import Claim
from core.credits import Entry, EntryKind
from core.database import transaction
from core.errors import InkqueueError, InsufficientCredits, KeyBudgetExceeded
from core.job_tables import ImageRow, JobRow
from core.locks import LockedJob, lock_jobs
from core.notices import Changes
from core.outcomes import Outcome, finish_in
from core.states import Status
from core.transcript import BoundingBox

#: Marks the ledger entries of a layout; an image has at most one.
_REASON = "layout"


def lay_out(claim: Claim, lines: Sequence[BoundingBox]) -> tuple[BoundingBox, ...] | None:
    """Write the lines that were found on a claimed page, in reading order, and top up or release its hold for them.

    All of it is one transaction. A page is laid out once: when an earlier attempt has done so, its lines come back, so
    that what was paid for is what is read.

    Args:
        claim: The page, under its fencing token.
        lines: At most the job's `max_lines`; none at all is a blank page, and free.

    Returns:
        The lines to read; None when there is nothing to read any more: the attempt no longer stands, or the account
        or the key could not pay, so that the image has failed with that error, free.
    """
    with transaction() as connection:
        job = lock_jobs(connection, [claim.job_id]).get(claim.job_id)
        image = _standing(connection, claim)
        if job is None or image is None:
            return None
        if image.layout is not None:
            return tuple(_box(box) for box in image.layout)
        try:
            with connection.begin_nested():
                _move_hold(connection, claim, job, job.line_price_micro * len(lines) - image.held_micro)
            _write(connection, claim, lines)
        except (InsufficientCredits, KeyBudgetExceeded) as error:
            changes = finish_in(connection, [_failure(claim, error)])
        else:
            changes = Changes()
    notices.tell(changes)
    return None if changes.words else tuple(lines)


def _standing(connection: Connection, claim: Claim) -> Row[Any] | None:
    return connection.execute(
        select(ImageRow.held_micro, ImageRow.layout)
        .where(ImageRow.id == claim.image_id, ImageRow.attempt == claim.attempt, ImageRow.status == Status.RUNNING)
        .with_for_update(key_share=True)
    ).one_or_none()


def _move_hold(connection: Connection, claim: Claim, job: LockedJob, change_micro: int) -> None:
    if not change_micro:
        return
    # Before it is written that the job holds more: that would be kept of grants that are over.
    if change_micro > 0:
        credits.check_hold(connection, account_id=job.account_id, key_id=job.key_id, amount_micro=change_micro)
    for table, row_id in ((ImageRow, claim.image_id), (JobRow, claim.job_id)):
        connection.execute(update(table).where(table.id == row_id).values(held_micro=table.held_micro + change_micro))
    entry = Entry(
        account_id=job.account_id,
        kind=EntryKind.HOLD if change_micro > 0 else EntryKind.RELEASE,
        amount_micro=abs(change_micro),
        job_id=claim.job_id,
        image_id=claim.image_id,
        key_id=job.key_id,
        model=job.model,
        reason=_REASON,
    )
    credits.post(connection, [entry])


def _write(connection: Connection, claim: Claim, lines: Sequence[BoundingBox]) -> None:
    boxes = [[line.xmin, line.ymin, line.xmax, line.ymax] for line in lines]
    connection.execute(update(ImageRow).where(ImageRow.id == claim.image_id).values(layout=boxes))


def _box(numbers: Sequence[int]) -> BoundingBox:
    return BoundingBox(**dict(zip(("xmin", "ymin", "xmax", "ymax"), numbers, strict=True)))


def _failure(claim: Claim, error: InkqueueError) -> Outcome:
    return Outcome(image_id=claim.image_id, job_id=claim.job_id, attempt=claim.attempt, error=error)
