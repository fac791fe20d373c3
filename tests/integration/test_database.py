"""Transactions when Postgres ends or refuses them."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from core.database import transaction
from core.errors import Unavailable
from core.settings import settings
from tests.domain import rows
from tests.waiting import wait_until


def test_a_process_that_stands_still_in_a_transaction_loses_it_and_goes_on_with_the_next() -> None:
    assert rows("SHOW idle_in_transaction_session_timeout") == [(f"{settings().lease_s:.0f}s",)]
    with pytest.raises(Unavailable), transaction() as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        wait_until(lambda: not rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1"))
        connection.execute(text("SELECT 1"))
    assert rows("SELECT 1") == [(1,)]


def test_a_statement_that_takes_too_long_is_told_from_a_postgres_that_is_away() -> None:
    with pytest.raises(Unavailable, match="took too long"), transaction() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 1"))
        connection.execute(text("SELECT pg_sleep(10)"))


def test_a_postgres_that_writes_nothing_now_is_unavailable() -> None:
    with pytest.raises(Unavailable), transaction() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text("DELETE FROM job_events"))
