"""What accounts and their keys may still submit, read under the accounts' locks, and judged job by job."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, text

from core import credits, key_totals
from core.accounts import Caller
from core.admission import check_stored
from core.errors import RateLimited
from core.key_totals import THIS_MONTH, Budget
from core.settings import settings

#: Who has too many jobs in flight waits for one of them to end.
_RETRY_S = 5

# A key that is not known any more has stored nothing. What is in flight is counted no further than it matters, and of
# whoever has no limit not at all.
_USED = text(
    f"""
    SELECT asked.account_id, asked.key_id,
        accounts.stored_bytes AS account_bytes, coalesce(api_keys.stored_bytes, 0) AS key_bytes,
        (SELECT count(*) FROM (
            SELECT FROM jobs
            WHERE jobs.account_id = asked.account_id AND status IN ('queued', 'running')
            LIMIT :account_limit) jobs) AS account_jobs,
        (SELECT count(*) FROM (
            SELECT FROM jobs
            WHERE jobs.account_id = asked.account_id AND jobs.key_id = asked.key_id
              AND status IN ('queued', 'running')
            LIMIT asked.key_limit) jobs) AS key_jobs,
        api_keys.monthly_cap_micro AS cap_micro, api_keys.held_micro,
        CASE WHEN api_keys.monthly_cap_micro IS NOT NULL THEN coalesce((
            SELECT captured_micro FROM key_months WHERE key_id = asked.key_id AND month = {THIS_MONTH}), 0) END
            AS captured_micro
    FROM unnest(CAST(:accounts AS text[]), CAST(:keys AS text[]), CAST(:key_limits AS bigint[]))
        AS asked (account_id, key_id, key_limit)
    JOIN accounts ON accounts.id = asked.account_id
    LEFT JOIN api_keys ON api_keys.id = asked.key_id
    """
)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one job takes of what its account and its key may."""

    held_micro: int
    stored_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Used:
    """What counts against a limit of an account or of a key."""

    jobs_in_flight: int
    stored_bytes: int

    def more(self, taken: Taken) -> _Used:
        return _Used(jobs_in_flight=self.jobs_in_flight + 1, stored_bytes=self.stored_bytes + taken.stored_bytes)


class Standings:
    """How these callers stand; good for one transaction, which keeps their accounts locked to its end.

    Args:
        connection: The transaction.
        callers: Of which accounts and keys.
    """

    def __init__(self, connection: Connection, callers: Collection[Caller]) -> None:
        self._credit = credits.settled(connection, {caller.account_id for caller in callers})
        self._budgets: dict[str, Budget] = {}
        #: Of accounts and of keys.
        self._used: dict[str, _Used] = {}
        for row in _look(connection, callers):
            self._used[row.account_id], self._used[row.key_id] = _used(row)
            if row.cap_micro is not None:
                self._budgets[row.key_id] = Budget(
                    cap_micro=row.cap_micro, captured_micro=row.captured_micro, held_micro=row.held_micro
                )

    def check(self, caller: Caller, taken: Taken) -> None:
        """Judge whether a job may be taken beside those that were counted.

        Raises:
            InsufficientCredits: The account cannot pay for it.
            KeyBudgetExceeded: The key may not spend so much this month.
            RateLimited: There is no room until a job ends or is deleted.
        """
        credits.check_available(self._credit[caller.account_id], taken.held_micro)
        key_totals.check_cap(self._budgets.get(caller.key_id), taken.held_micro)
        _check_room(caller, *(self._used[whose].more(taken) for whose in (caller.account_id, caller.key_id)))

    def count(self, caller: Caller, taken: Taken) -> None:
        """Count a job that is taken."""
        credit = self._credit[caller.account_id]
        self._credit[caller.account_id] = replace(credit, held_micro=credit.held_micro + taken.held_micro)
        budget = self._budgets.get(caller.key_id)
        if budget is not None:
            self._budgets[caller.key_id] = replace(budget, held_micro=budget.held_micro + taken.held_micro)
        for whose in (caller.account_id, caller.key_id):
            self._used[whose] = self._used[whose].more(taken)


def check_room(connection: Connection, caller: Caller) -> None:
    """Judge without a lock whether there is room for any job at all, before its images are fetched.

    Raises:
        RateLimited: There is none until a job ends or is deleted.
    """
    (row,) = _look(connection, [caller])
    least = Taken(held_micro=0, stored_bytes=1)
    _check_room(caller, *(used.more(least) for used in _used(row)))


def _check_room(caller: Caller, of_account: _Used, of_key: _Used) -> None:
    limits = settings()
    _check_in_flight("account", of_account.jobs_in_flight, limit=limits.max_jobs_in_flight)
    _check_in_flight("key", of_key.jobs_in_flight, limit=caller.limits.get("jobs_in_flight", 0))
    check_stored("account", of_account.stored_bytes, limit=limits.max_stored_bytes)
    check_stored("key", of_key.stored_bytes, limit=caller.limits.get("stored_bytes", 0))


def _check_in_flight(whose: str, jobs: int, *, limit: int) -> None:
    if limit and jobs > limit:
        raise RateLimited(f"the {whose} may have {limit} jobs in flight; wait for one to end", retry_after_s=_RETRY_S)


def _used(row: Row[Any]) -> tuple[_Used, _Used]:
    """By the account, and by the key."""
    return (
        _Used(jobs_in_flight=row.account_jobs, stored_bytes=row.account_bytes),
        _Used(jobs_in_flight=row.key_jobs, stored_bytes=row.key_bytes),
    )


def _look(connection: Connection, callers: Collection[Caller]) -> Sequence[Row[Any]]:
    # Of one key, some callers may have been identified before its limit was changed.
    asked: dict[tuple[str, str], int] = {}
    for caller in callers:
        key = caller.account_id, caller.key_id
        asked[key] = max(asked.get(key, 0), caller.limits.get("jobs_in_flight", 0))
    return connection.execute(
        _USED,
        {
            "accounts": [account_id for account_id, _ in asked],
            "keys": [key_id for _, key_id in asked],
            "key_limits": list(asked.values()),
            "account_limit": settings().max_jobs_in_flight,
        },
    ).all()
