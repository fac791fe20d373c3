from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from core import accounts, identification, keys
from core.accounts import Caller
from core.database import looking, transaction
from core.errors import InvalidApiKey, Unavailable
from core.identification import identify
from tests.domain import new_key, rows
from tests.waiting import wait_until


class Door:
    """Looks that wait until they may go on."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.looks = 0

    @contextmanager
    def looking(self) -> Iterator[Connection]:
        self.looks += 1
        assert self.opened.wait(10)
        with looking() as connection:
            yield connection


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door()
    monkeypatch.setattr(identification, "looking", door.looking)
    return door


def identified(key: str) -> Caller | Exception:
    try:
        return identify(key)
    except (InvalidApiKey, Unavailable) as exc:
        return exc


def test_those_who_come_while_one_looks_are_looked_up_together(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification.turns, "patience_s", 10.0)
    keys_ = [new_key("archive"), new_key("library")]
    asked = [*keys_, "ink_unknown", keys_[0], "ink_nobodys"]
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(identified, keys_[0])
        wait_until(lambda: door.looks == 1)
        others = [threads.submit(identified, key) for key in asked]
        wait_until(lambda: identification.turns.waiting == len(asked))
        door.opened.set()
        found = [each.result() for each in (first, *others)]
    assert door.looks == 2
    ids = [each.key_id if isinstance(each, Caller) else None for each in found]
    archive, library = (key_id for (key_id,) in rows("SELECT id FROM api_keys ORDER BY id"))
    assert ids == [archive, archive, library, None, archive, None]
    # An exception refers to all that its thread did.
    assert found[3] is not found[5]
    assert rows("SELECT count(*) FROM api_keys WHERE last_used_at IS NULL") == [(0,)]


def test_who_waits_too_long_looks_alone(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification.turns, "patience_s", 0.05)
    key = new_key()
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(identified, key) for _ in range(2)]
        wait_until(lambda: door.looks == 2)
        door.opened.set()
        assert all(isinstance(each.result(), Caller) for each in both)


def test_an_outage_that_one_meets_is_nobody_elses(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identification.turns, "patience_s", 10.0)
    key, failures = new_key(), [Unavailable("the database went away")]

    @contextmanager
    def failing_once() -> Iterator[Connection]:
        with door.looking() as connection:
            if failures:
                raise failures.pop()
            yield connection

    monkeypatch.setattr(identification, "looking", failing_once)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(identified, key)
        wait_until(lambda: door.looks == 1)
        others = [threads.submit(identified, key) for _ in range(3)]
        wait_until(lambda: identification.turns.waiting == 3)
        door.opened.set()
        assert isinstance(first.result(), Unavailable)
        assert all(isinstance(each.result(), Caller) for each in others)


def test_a_rotated_key_is_found_beside_the_one_that_it_replaces() -> None:
    old = new_key()
    caller = identify(old)
    with transaction() as connection:
        new = keys.rotate_own(connection, caller.account_id, caller.key_id, overlap=timedelta(hours=1))
    with looking() as connection:
        found = identification.callers_of(connection, [old, new, old])
    assert [each.key_id for each in found if isinstance(each, Caller)] == [caller.key_id] * 3
    with transaction() as connection:
        accounts.revoke_key(connection, caller.key_id)
    assert isinstance(identified(old), InvalidApiKey) and isinstance(identified(new), InvalidApiKey)
