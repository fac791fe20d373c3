from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from structlog.testing import CapturingLogger

from core import outcomes
from core.claims import claim
from core.database import engine
from core.errors import Unavailable
from core.outcomes import Outcome
from tests.domain import MODEL, assert_ledger_balances, new_caller, read, rows, submit_lines
from tests.waiting import wait_until
from worker.finisher import Finisher


@pytest.fixture
def finisher() -> Iterator[Finisher]:
    finisher = Finisher()
    finisher.start()
    yield finisher
    assert finisher.close(timeout_s=10)


def statuses() -> list[tuple[object, ...]]:
    return rows("SELECT status, count(*) FROM images GROUP BY status ORDER BY status")


def test_what_waits_when_the_finisher_is_closed_is_still_written() -> None:
    submit_lines(new_caller(), 40)
    finisher = Finisher()
    for claimed in claim("wrk_1", MODEL, most=40):
        finisher.finish(read(claimed))
    finisher.start()
    assert finisher.close(timeout_s=20)
    assert statuses() == [("succeeded", 40)]


def test_a_result_that_may_wait_is_written_with_the_next_and_alone_where_none_comes(
    finisher: Finisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr("core.outcomes.finish", lambda ended: written.append(len(ended)))
    submit_lines(new_caller(), 4)
    first, *others, last = claim("wrk_1", MODEL, most=4)
    finisher.finish(read(first), may_wait_s=0.1)
    wait_until(lambda: written == [1])
    for claimed in others:
        finisher.finish(read(claimed), may_wait_s=20)
    finisher.finish(read(last))
    wait_until(lambda: written == [1, 3])


def test_results_wait_while_the_database_is_away(finisher: Finisher, monkeypatch: pytest.MonkeyPatch) -> None:
    submit_lines(new_caller())
    write, failures = outcomes.finish, iter([Unavailable(), Unavailable()])

    def away_twice(ended: list[Outcome]) -> None:
        for failure in failures:
            raise failure
        write(ended)

    monkeypatch.setattr("core.outcomes.finish", away_twice)
    finisher.finish(read(claim("wrk_1", MODEL, most=1)[0]))
    wait_until(lambda: statuses() == [("succeeded", 1)])


def test_results_wait_while_the_database_writes_nothing(finisher: Finisher, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not structlog's capture_logs: where a test before this one had it log, the logger is cached and not captured.
    log = CapturingLogger()
    monkeypatch.setattr("worker.finisher._log", log)
    submit_lines(new_caller())
    (claimed,) = claim("wrk_1", MODEL, most=1)
    writes_nothing("on")
    try:
        finisher.finish(read(claimed))
        wait_until(lambda: any(call.args == ("results wait for the database",) for call in log.calls))
    finally:
        writes_nothing("off")
    wait_until(lambda: statuses() == [("succeeded", 1)])


def writes_nothing(state: str) -> None:
    """Switch the server to writing nothing, as a host's guard of the disk does, or back."""
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER SYSTEM SET default_transaction_read_only = {state}"))
        connection.execute(text("SELECT pg_reload_conf()"))
    wait_until(lambda: rows("SHOW default_transaction_read_only") == [(state,)])


def test_a_result_that_the_database_refuses_fails_alone(finisher: Finisher) -> None:
    submit_lines(new_caller(), 3)
    good, refused, other = claim("wrk_1", MODEL, most=3)
    for outcome in (read(good), read(refused, "a NUL \0 cannot be stored"), read(other)):
        finisher.finish(outcome)
    wait_until(lambda: statuses() == [("failed", 1), ("succeeded", 2)])
    assert rows("SELECT error_code FROM images WHERE id = :id", id=refused.image_id) == [("internal",)]
    assert_ledger_balances()


def test_what_is_given_back_waits_for_another_worker(finisher: Finisher) -> None:
    submit_lines(new_caller())
    finisher.give_back(claim("wrk_1", MODEL, most=1)[0])
    wait_until(lambda: statuses() == [("queued", 1)])
