"""Submissions whose images are stored become jobs: those of one moment in one transaction, each taken or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from core import credits, idempotency, job_rows, stored_bytes
from core.credits import Entry, EntryKind
from core.database import transaction
from core.errors import IdempotencyInProgress, InkqueueError
from core.idempotency import Once
from core.job_rows import Ahead, JobToBe
from core.job_views import JobView
from core.standings import Standings, Taken

#: The status of the answer to a submission, which a replay repeats.
_ACCEPTED = 202


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job that is to be taken."""

    job: JobToBe
    #: Under what it is taken once.
    once: Once | None = None
    #: What else is to be true with it: called with the transaction and the job's id.
    also: Callable[[Connection, str], None] | None = None

    @property
    def taken(self) -> Taken:
        """What it takes of what its account may."""
        return Taken(held_micro=self.job.held_micro, stored_bytes=self.job.new.stored_bytes)

    @property
    def own_key(self) -> tuple[str, str] | None:
        """Its account, and the key under which it is taken once."""
        return (self.job.caller.account_id, self.once.key) if self.once else None


def take(submissions: Sequence[Submission], *, patient: bool = True) -> list[JobView | InkqueueError]:
    """Take these submissions in one transaction; the job that each has become, or why it is refused.

    Args:
        submissions: In the order in which they came.
        patient: False gives up after a moment where others hold an account.

    Raises:
        Contended: Others hold an account; none is taken.
        Unavailable: Postgres cannot be reached; none is taken, unless it went just at the end.
        Exception: What else went wrong with any of them; none is taken.
    """
    outcomes: dict[str, JobView | InkqueueError] = {}
    with transaction(patient=patient) as connection:
        in_progress = idempotency.in_progress(connection, [key for each in submissions if (key := each.own_key)])
        outcomes |= {each.job.id: IdempotencyInProgress() for each in submissions if each.own_key in in_progress}
        outcomes |= _take(connection, [each for each in submissions if each.job.id not in outcomes])
    return [outcomes[each.job.id] for each in submissions]


def _take(connection: Connection, submissions: Sequence[Submission]) -> dict[str, JobView | InkqueueError]:
    if not submissions:
        return {}
    # It needs no lock, and so comes before the accounts are locked.
    ahead = Ahead(connection, [submission.job.new for submission in submissions])
    standings = Standings(connection, [submission.job.caller for submission in submissions])
    refusals = {each.job.id: refusal for each in submissions if (refusal := _refusal(connection, standings, each))}
    taken = _write(connection, [each for each in submissions if each.job.id not in refusals], ahead)
    return {job.id: job for job in taken} | refusals


def _refusal(connection: Connection, standings: Standings, submission: Submission) -> InkqueueError | None:
    job = submission.job
    try:
        standings.check(job.caller, submission.taken)
        # After all that may refuse it, since this writes.
        if submission.once is not None:
            idempotency.take(connection, job.caller.account_id, submission.once, job_id=job.id, status_code=_ACCEPTED)
    except InkqueueError as refusal:
        return refusal
    standings.count(job.caller, submission.taken)
    return None


def _write(connection: Connection, submissions: Sequence[Submission], ahead: Ahead) -> list[JobView]:
    jobs = [submission.job for submission in submissions]
    views = job_rows.insert(connection, jobs, ahead)
    credits.post(
        connection,
        [
            Entry(
                account_id=job.caller.account_id,
                kind=EntryKind.HOLD,
                amount_micro=job.held_micro,
                job_id=job.id,
                key_id=job.caller.key_id,
            )
            for job in jobs
        ],
    )
    stored: Counter[tuple[str, str]] = Counter()
    for job in jobs:
        stored[job.caller.account_id, job.caller.key_id] += job.new.stored_bytes
    stored_bytes.count_for_jobs(connection, stored)
    for submission in submissions:
        if submission.also is not None:
            submission.also(connection, submission.job.id)
    return views
