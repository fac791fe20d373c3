from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from core import claims, outcomes
from core.claims import claim
from core.jobs import cancel
from core.states import Priority
from tests.domain import MODEL, assert_ledger_balances, new_caller, read, rows, submit_lines


def test_the_more_urgent_job_is_claimed_first_although_it_came_later() -> None:
    caller = new_caller()
    submit_lines(caller, 20, priority=Priority.BULK)
    urgent = submit_lines(caller, priority=Priority.INTERACTIVE)
    assert claim("wrk_1", MODEL, most=3)[0].job_id == urgent


def test_accounts_take_turns_within_a_priority() -> None:
    many, few = new_caller("many"), new_caller("few")
    submit_lines(many, 50)
    job_of_few = submit_lines(few, 2)
    taken = [claimed.job_id for claimed in claim("wrk_1", MODEL, most=4)]
    assert taken.count(job_of_few) == 2


def test_an_account_with_running_images_waits_for_the_others() -> None:
    many, few = new_caller("many"), new_caller("few")
    submit_lines(many, 50)
    claim("wrk_1", MODEL, most=10)
    job_of_few = submit_lines(few, 10)
    assert {claimed.job_id for claimed in claim("wrk_1", MODEL, most=8)} == {job_of_few}


def test_the_oldest_is_claimed_first_within_an_account() -> None:
    caller = new_caller()
    jobs = [submit_lines(caller) for _ in range(3)]
    assert [claimed.job_id for claimed in claim("wrk_1", MODEL, most=3)] == jobs


def test_only_images_of_the_model_are_claimed() -> None:
    submit_lines(new_caller(), model="other")
    assert claim("wrk_1", MODEL, most=16) == []


def test_no_image_is_claimed_twice_by_claimers_at_once() -> None:
    submit_lines(new_caller(), 64)
    with ThreadPoolExecutor(8) as pool:
        taken = [found for batch in pool.map(lambda i: claim(f"wrk_{i}", MODEL, most=16), range(8)) for found in batch]
    assert len({found.image_id for found in taken}) == len(taken)
    left = claim("wrk_9", MODEL, most=64)
    assert len(taken) + len(left) == 64


def test_a_claim_starts_the_job_and_raises_the_attempt() -> None:
    job_id = submit_lines(new_caller())
    assert claim("wrk_1", MODEL, most=1)[0].attempt == 1
    assert rows("SELECT status, started_at IS NOT NULL FROM jobs WHERE id = :id", id=job_id) == [("running", True)]


def test_what_is_given_back_is_claimed_again_without_a_loss() -> None:
    submit_lines(new_caller())
    first = claim("wrk_1", MODEL, most=1)
    claims.mark_started(first)
    claims.give_back(first)
    second = claim("wrk_2", MODEL, most=1)[0]
    assert (second.attempt, second.suspect) == (2, False)


def test_a_late_worker_changes_nothing() -> None:
    submit_lines(new_caller())
    late = claim("wrk_1", MODEL, most=1)
    claims.give_back(late)
    current = claim("wrk_2", MODEL, most=1)[0]
    outcomes.finish([read(late[0], "too late")])
    claims.give_back(late)
    outcomes.finish([read(current, "in time")])
    assert rows("SELECT text FROM lines") == [("in time",)]
    assert_ledger_balances()


def test_a_canceled_image_is_no_longer_ours() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2)
    kept = submit_lines(caller)
    held = claim("wrk_1", MODEL, most=3)
    cancel(caller, job_id)
    assert {image.image_id for image in claims.taken_by("wrk_1")} == {
        found.image_id for found in held if found.job_id == kept
    }


def test_waiting_images_are_counted_for_each_model_up_to_a_limit() -> None:
    caller = new_caller()
    submit_lines(caller, 5)
    submit_lines(caller, 1, model="other")
    from core.database import transaction

    with transaction() as connection:
        assert claims.waiting_images(connection, most=3) == {MODEL: 3, "other": 1}


def test_cancels_claims_and_results_at_once_never_deadlock_and_never_lose_a_credit() -> None:
    caller = new_caller()
    jobs = [submit_lines(caller, 8) for _ in range(10)]

    def work(worker: int) -> None:
        while taken := claim(f"wrk_{worker}", MODEL, most=5):
            claims.mark_started(taken)
            outcomes.finish([read(found) for found in taken[::2]])
            claims.give_back(taken[1::2])

    def give_up(job_id: str) -> None:
        from core.errors import AlreadyFinished

        try:
            cancel(caller, job_id)
        except AlreadyFinished:
            return

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, worker) for worker in range(4)]
        canceling = [pool.submit(give_up, job_id) for job_id in jobs[::2]]
        for future in (*working, *canceling):
            future.result(timeout=60)
    assert rows("SELECT count(*) FROM images WHERE status IN ('queued', 'running')") == [(0,)]
    assert rows("SELECT held_micro FROM accounts") == [(0,)]
    assert_ledger_balances()
