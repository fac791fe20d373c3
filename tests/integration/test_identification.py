from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text

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


def identified_together(door: Door, secrets: list[str]) -> list[str | None]:
    """The keys of those who come while another looks, which are looked up together; None of those who are refused."""
    door.opened.clear()
    looks = door.looks
    with ThreadPoolExecutor(len(secrets) + 1) as threads:
        first = threads.submit(identified, "ink_unknown")
        wait_until(lambda: door.looks == looks + 1)
        others = [threads.submit(identified, secret) for secret in secrets]
        wait_until(lambda: identification.turns.waiting == len(secrets))
        door.opened.set()
        assert isinstance(first.result(), InvalidApiKey)
        found = [each.result() for each in others]
    assert door.looks == looks + 2
    return [each.key_id if isinstance(each, Caller) else None for each in found]


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


def test_a_rotated_key_is_found_beside_the_one_that_it_replaces_until_its_time_is_over(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identification.turns, "patience_s", 10.0)
    old = new_key()
    with looking() as connection:
        caller = identification.caller_of(connection, old)
    with transaction() as connection:
        new = keys.rotate_own(connection, caller.account_id, caller.key_id, overlap=timedelta(hours=1))
    assert identified_together(door, [new, old, new]) == [caller.key_id] * 3
    with transaction() as connection:
        connection.execute(text("UPDATE api_keys SET previous_until = now()"))
    assert identified_together(door, [new, old, new]) == [caller.key_id, None, caller.key_id]
    with transaction() as connection:
        accounts.revoke_key(connection, caller.key_id)
    assert identified_together(door, [new, old]) == [None, None]


def test_a_key_that_is_refused_was_not_used(door: Door) -> None:
    key = new_key()
    door.opened.set()
    with transaction() as connection:
        accounts.suspend(connection, accounts.account_named(connection, "archive"))
    assert isinstance(identified(key), InvalidApiKey)
    assert rows("SELECT last_used_at FROM api_keys") == [(None,)]


def test_that_a_key_was_used_cannot_be_written_and_its_caller_is_known(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    door.opened.set()

    @contextmanager
    def written_by_nobody(**_: bool) -> Iterator[Connection]:
        raise Unavailable("the database writes nothing now")
        yield

    monkeypatch.setattr(identification, "transaction", written_by_nobody)
    assert isinstance(identified(key), Caller)


def test_a_refusal_is_freed_at_once(door: Door) -> None:
    door.opened.set()
    gc.collect()
    gc.disable()
    try:
        with looking() as connection, pytest.raises(InvalidApiKey) as refused:
            identification.caller_of(connection, "ink_unknown")
        refusal = weakref.ref(refused.value)
        del refused
        assert refusal() is None
    finally:
        gc.enable()
