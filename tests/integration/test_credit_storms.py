"""Many at once on one small balance: threads, a real Postgres, and sums that come out exactly."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from core import accounts, claims, identification, outcomes
from core.accounts import Caller
from core.audit import audit
from core.database import transaction
from core.errors import AlreadyFinished, InsufficientCredits, InvalidApiKey
from core.jobs import cancel
from tests.domain import MODEL, new_caller, read, rows, submit_lines


def assert_clean() -> None:
    with transaction() as connection:
        assert audit(connection) == []


def key_holder(*, grant_credits: int) -> tuple[Caller, str]:
    account_id = new_caller(grant_credits=grant_credits).account_id
    with transaction() as connection:
        key = accounts.create_key(connection, account_id=account_id, name="test")
        return identification.caller_of(connection, key), key


def test_of_hundreds_of_submissions_at_once_exactly_as_many_are_taken_as_can_be_paid() -> None:
    caller, _ = key_holder(grant_credits=50)

    def submitted(_: int) -> str:
        try:
            submit_lines(caller)
        except InsufficientCredits as refusal:
            return "reserved" if "running jobs hold" in refusal.message else "spent"
        return "taken"

    with ThreadPoolExecutor(16) as pool:
        answers = Counter(pool.map(submitted, range(300)))
    assert answers == {"taken": 50, "reserved": 250}
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(50_000_000, 50_000_000)]
    assert_clean()


def test_submissions_results_and_cancels_at_once_on_a_small_balance_come_out_exactly() -> None:
    caller, _ = key_holder(grant_credits=60)
    submitting = threading.Event()

    def submit_and_give_up(number: int) -> None:
        with suppress(InsufficientCredits, AlreadyFinished):
            job_id = submit_lines(caller, 3)
            if number % 3 == 0:
                cancel(caller, job_id)

    def work(worker: int) -> None:
        while (taken := claims.claim(f"wrk_{worker}", MODEL, most=7)) or not submitting.is_set():
            ended = [read(found) for found in taken]
            # A worker that dies between its result and its acknowledgement is asked to do the same again.
            for _ in range(2):
                outcomes.finish(ended)

    with ThreadPoolExecutor(12) as pool:
        workers = [pool.submit(work, number) for number in range(3)]
        for future in [pool.submit(submit_and_give_up, number) for number in range(60)]:
            future.result(timeout=60)
        submitting.set()
        for future in workers:
            future.result(timeout=60)
    ((balance, held),) = rows("SELECT balance_micro / 1000000, held_micro FROM accounts")
    assert rows("SELECT 60 - count(*) FROM lines") == [(balance,)]
    assert held == 0
    assert_clean()


def test_a_key_that_is_revoked_in_flight_submits_nothing_more_and_its_jobs_are_charged() -> None:
    caller, key = key_holder(grant_credits=1000)
    revoked = threading.Event()
    late: list[int] = []

    def submit_by_key(number: int) -> None:
        after = revoked.is_set()
        with suppress(InvalidApiKey):
            with transaction() as connection:
                known = identification.caller_of(connection, key)
            submit_lines(known)
            if after:
                late.append(number)
        if number == 20:
            with transaction() as connection:
                accounts.revoke_key(connection, caller.key_id)
            revoked.set()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit_by_key, range(60)))
    ((taken,),) = rows("SELECT count(*) FROM jobs")
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=100)])
    assert late == [] and isinstance(taken, int) and 0 < taken < 60
    assert rows("SELECT balance_micro FROM accounts") == [((1000 - taken) * 1_000_000,)]
    assert_clean()
