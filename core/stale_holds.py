"""Holds that nobody will settle any more, because their job has ended or is not there: found, and released.

No path of the service leaves one behind; what a defect or a restored backup leaves is healed here rather than kept
from its account for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text, update

from core import credits
from core.credits import Entry, EntryKind
from core.database import transaction
from core.job_tables import JobRow
from core.locks import lock_jobs
from core.states import Status

_REASON = "stale hold"

# The first part is cheap, and as a rule all: only of accounts whose jobs in flight do not add up is the ledger read.
_STALE = text(
    """
    WITH astray AS (
        SELECT accounts.id FROM accounts
        WHERE held_micro > 0 AND held_micro <> (
            SELECT coalesce(sum(jobs.held_micro), 0) FROM jobs
            WHERE jobs.account_id = accounts.id AND jobs.status IN ('queued', 'running'))
    )
    SELECT ledger.account_id, ledger.job_id, max(ledger.key_id) AS key_id,
           sum(CASE ledger.kind WHEN 'hold' THEN ledger.amount_micro ELSE -ledger.amount_micro END)::bigint
               AS amount_micro
    FROM astray
    JOIN ledger ON ledger.account_id = astray.id
    LEFT JOIN jobs ON jobs.id = ledger.job_id
    WHERE ledger.kind IN ('hold', 'capture', 'release') AND ledger.job_id IS NOT NULL
      AND (CAST(:job AS text) IS NULL OR ledger.job_id = :job)
      AND (jobs.id IS NULL OR jobs.status NOT IN ('queued', 'running'))
    GROUP BY ledger.account_id, ledger.job_id
    HAVING sum(CASE ledger.kind WHEN 'hold' THEN ledger.amount_micro ELSE -ledger.amount_micro END) > 0
    """
)


@dataclass(frozen=True, kw_only=True)
class StaleHold:
    """Credits that are held for a job that will not settle them."""

    account_id: str
    job_id: str
    key_id: str | None
    amount_micro: int


def find(connection: Connection, *, job_id: str | None = None) -> list[StaleHold]:
    """All stale holds, or those of one job."""
    return [StaleHold(**row) for row in connection.execute(_STALE, {"job": job_id}).mappings()]


def release_all() -> list[StaleHold]:
    """Release every stale hold, each in a transaction of its own; return them."""
    with transaction() as connection:
        found = find(connection)
    return [released for hold in found for released in _release(hold.job_id)]


def _release(job_id: str) -> list[StaleHold]:
    with transaction() as connection:
        lock_jobs(connection, [job_id])
        # Looked at again under the lock of the job; two sweepers at once do not get here.
        stale = find(connection, job_id=job_id)
        ended = JobRow.status.not_in([Status.QUEUED, Status.RUNNING])
        connection.execute(update(JobRow).where(JobRow.id == job_id, ended).values(held_micro=0))
        credits.post(
            connection,
            [
                Entry(
                    account_id=hold.account_id,
                    kind=EntryKind.RELEASE,
                    amount_micro=hold.amount_micro,
                    job_id=hold.job_id,
                    key_id=hold.key_id,
                    reason=_REASON,
                )
                for hold in stale
            ],
        )
    return stale
