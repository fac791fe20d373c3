"""Submissions whose images are stored become jobs: those of one moment in one transaction, each taken or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from core import credits, idempotency, job_rows, stored_bytes
from core.credits import Entry, EntryKind
from core.database import transaction
from core.errors import InkqueueError
from core.idempotency import Once
from core.job_rows import JobToBe
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


def take(submissions: Sequence[Submission]) -> list[JobView | InkqueueError]:
    """Take these submissions in one transaction; the job that each has become, or why it is refused.

    Raises:
        Unavailable: Postgres cannot be reached; none is taken, unless it went just at the end.
        Exception: What else went wrong with any of them; none is taken.
    """
    with transaction() as connection:
        standings = Standings(connection, [submission.job.caller for submission in submissions])
        refusals = [_refusal(connection, standings, submission) for submission in submissions]
        taken = [submission for submission, refusal in zip(submissions, refusals, strict=True) if refusal is None]
        jobs = iter(_write(connection, taken))
    return [refusal or next(jobs) for refusal in refusals]


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


def _write(connection: Connection, submissions: Sequence[Submission]) -> list[JobView]:
    jobs = [submission.job for submission in submissions]
    views = job_rows.insert(connection, jobs)
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
