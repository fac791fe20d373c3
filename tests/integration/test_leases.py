from __future__ import annotations

from core import leases
from core.claims import Claim, claim, mark_started
from core.database import transaction
from tests.domain import MODEL, assert_ledger_balances, new_caller, rows, submit_lines


def silenced(worker_id: str) -> None:
    """The worker has not been heard of for longer than its lease."""
    rows("UPDATE workers SET expires_at = now() - interval '1 second' WHERE id = :id RETURNING id", id=worker_id)


def sweep() -> None:
    with transaction() as connection:
        leases.expire_dead(connection)


def lost(*, started: bool) -> Claim:
    """Claim the one image that waits, then die."""
    worker_id = leases.register([])
    taken = claim(worker_id, MODEL, most=1)
    if started:
        mark_started(taken)
    silenced(worker_id)
    sweep()
    return taken[0]


def test_a_dead_workers_images_go_back_to_the_queue() -> None:
    submit_lines(new_caller(), 3)
    worker_id = leases.register([])
    claim(worker_id, MODEL, most=2)
    silenced(worker_id)
    sweep()
    assert rows("SELECT count(*) FROM images WHERE status = 'queued'") == [(3,)]
    assert not leases.renew(worker_id)


def test_a_living_workers_images_stay_with_it() -> None:
    submit_lines(new_caller())
    worker_id = leases.register([])
    claim(worker_id, MODEL, most=1)
    assert leases.renew(worker_id)
    sweep()
    assert rows("SELECT status FROM images") == [("running",)]


def test_only_an_image_that_had_started_becomes_a_suspect() -> None:
    submit_lines(new_caller())
    lost(started=False)
    assert not lost(started=True).suspect
    assert claim("wrk_1", MODEL, most=1)[0].suspect


def test_an_image_that_was_started_as_it_was_claimed_becomes_a_suspect() -> None:
    submit_lines(new_caller())
    worker_id = leases.register([])
    assert claim(worker_id, MODEL, most=16, free_rows=1)[0].started
    silenced(worker_id)
    sweep()
    again = claim("wrk_1", MODEL, most=16)[0]
    assert (again.suspect, again.started) == (True, False)


def test_images_are_started_as_they_are_claimed_where_there_are_rows_for_all() -> None:
    caller = new_caller()
    for free_rows, started in ((2, [False] * 3), (3, [True] * 3)):
        submit_lines(caller, 3)
        assert [found.started for found in claim("wrk_1", MODEL, most=16, free_rows=free_rows)] == started


def test_no_image_is_started_as_it_is_claimed_with_a_suspect() -> None:
    caller = new_caller()
    submit_lines(caller)
    lost(started=True)
    submit_lines(caller)
    found = claim("wrk_1", MODEL, most=16, free_rows=16)
    assert [(each.suspect, each.started) for each in found] == [(True, False), (False, False)]


def test_an_image_that_three_workers_died_over_fails_free_as_worker_lost() -> None:
    caller = new_caller(grant_credits=1)
    submit_lines(caller)
    for _ in range(3):
        lost(started=True)
    assert rows("SELECT status, error_code FROM images") == [("failed", "worker_lost")]
    assert rows("SELECT status FROM jobs") == [("failed",)]
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(1_000_000, 0)]
    assert_ledger_balances()


def test_what_a_worker_claimed_after_its_lease_was_swept_goes_back_too() -> None:
    submit_lines(new_caller())
    worker_id = leases.register([])
    silenced(worker_id)
    sweep()
    claim(worker_id, MODEL, most=1)
    sweep()
    assert rows("SELECT status FROM images") == [("queued",)]


def test_a_worker_that_resigns_is_swept_away_at_once() -> None:
    worker_id = leases.register([])
    leases.resign(worker_id)
    sweep()
    assert rows("SELECT count(*) FROM workers") == [(0,)]


def test_the_models_of_living_workers_are_listed_once_each() -> None:
    for _ in range(2):
        leases.register([{"name": "b"}, {"name": "a"}])
    silenced(leases.register([{"name": "dead"}]))
    with transaction() as connection:
        assert [model["name"] for model in leases.served_models(connection)] == ["a", "b"]
