"""`inkqueue doctor` on a service that is well, and with each thing wrong that it looks for."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace

import pytest
from redis import Redis
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from cli.main import app
from core import leases
from core.checkup import check_all
from core.database import transaction
from core.exclusive import Work, alone
from core.redis_address import redis_client
from core.settings import settings
from tests.domain import new_caller, schema_of, submit_lines

#: Nobody listens there.
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def well(webhooks_to_here: None) -> Iterator[None]:
    """A service with a worker, a courier and a clerk, and a secret key."""
    del webhooks_to_here
    leases.register([{"name": "fake", "device": "cpu"}])
    with transaction() as connection:
        leases.note_sweep(connection)
    with alone(Work.BATCHES, threading.Event()):
        yield


def doctor() -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor"])
    return done.exit_code, done.output


@pytest.mark.usefixtures("well")
def test_of_a_service_that_is_well_every_part_is_named_and_nothing_is_to_be_mended() -> None:
    status, said = doctor()
    assert status == 0, said
    assert "wrong" not in said
    parts = ["postgres", "schema", "clock", "redis", "storage", "disk", "secret key", "worker", "courier", "clerk"]
    assert [line[7:17].strip() for line in said.splitlines()][: len(parts)] == parts
    assert "fake: served by 1, on cpu" in said


def postgres_away(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("core.database.engine", lambda: create_engine(f"postgresql+psycopg://nobody@{NOWHERE}/none"))


def redis_away(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("core.checkup.redis_client", lambda: Redis.from_url(f"redis://{NOWHERE}"))


def storage_away(patch: pytest.MonkeyPatch) -> None:
    gone = settings().model_copy(update={"storage_url": "file:///proc/version/images"})
    for module in ("core.checkup", "core.job_files"):
        patch.setattr(f"{module}.settings", lambda: gone)


def disk_full(patch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    patch.setattr("core.checkup.shutil.disk_usage", lambda _: usage._replace(free=10**6))


def clock_behind(patch: pytest.MonkeyPatch) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            del tz
            return datetime.now(UTC) - timedelta(seconds=3)

    patch.setattr("core.checkup.datetime", Behind)


def no_secret_key(patch: pytest.MonkeyPatch) -> None:
    without = settings().model_copy(update={"secret_key": ""})
    patch.setattr("core.checkup.settings", lambda: without)


def no_worker(patch: pytest.MonkeyPatch) -> None:
    del patch
    with transaction() as connection:
        connection.execute(text("DELETE FROM workers"))


def another_model(patch: pytest.MonkeyPatch) -> None:
    both = settings().model_copy(update={"models": ("fake", "trocr-tiny")})
    patch.setattr("cli.doctor.settings", lambda: both)


def no_courier(patch: pytest.MonkeyPatch) -> None:
    del patch
    with transaction() as connection:
        connection.execute(text("UPDATE sweeps SET swept_at = now() - interval '1 minute'"))


def no_clerk(patch: pytest.MonkeyPatch) -> None:
    # The fixture holds the lock of the one; nobody holds this one.
    patch.setattr("core.checkup.Work", SimpleNamespace(BATCHES=1))


def old_queue(patch: pytest.MonkeyPatch) -> None:
    submit_lines(new_caller())
    patch.setattr("core.checkup._MOST_WAIT_S", 0.0)


WRONG: list[tuple[Callable[[pytest.MonkeyPatch], None], str, str]] = [
    (postgres_away, "postgres", "start Postgres"),
    (redis_away, "redis", "start Redis"),
    (storage_away, "storage", "look at its owner"),
    (disk_full, "disk", "make room"),
    (clock_behind, "clock", "let NTP"),
    (no_secret_key, "secret key", "set INKQUEUE_SECRET_KEY"),
    (no_worker, "worker", "inkqueue worker"),
    (another_model, "worker", "restart the workers"),
    (no_courier, "courier", "inkqueue courier"),
    (no_clerk, "clerk", "inkqueue clerk"),
    (old_queue, "queue", "start more workers"),
]


@pytest.mark.parametrize(("break_it", "part", "mend"), WRONG, ids=[case[0].__name__ for case in WRONG])
@pytest.mark.usefixtures("well")
def test_what_is_wrong_is_named_alone_and_with_what_mends_it(
    break_it: Callable[[pytest.MonkeyPatch], None], part: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    status, said = doctor()
    assert status == 1
    assert said.count("wrong") == 1
    assert f"wrong  {part:<10}" in said
    assert mend in said


@pytest.mark.parametrize(("revision", "mend"), [("0001", "inkqueue migrate"), ("9999", "run the version of inkqueue")])
def test_a_schema_of_another_version_is_named_before_what_depends_on_it(revision: str, mend: str) -> None:
    with schema_of(revision):
        found = {check.part: check.mend for check in check_all([])}
    assert mend in (found["schema"] or "")
    assert "worker" not in found


def test_a_redis_that_throws_away_is_named() -> None:
    redis_client().config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = {check.part: check for check in check_all([])}
    finally:
        redis_client().config_set("maxmemory-policy", "noeviction")
    assert found["redis"].found == "answers, but evicts (allkeys-lru)"
    assert "noeviction" in (found["redis"].mend or "")


def test_no_check_tells_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql+psycopg://nobody:password-of-the-test@{NOWHERE}/none"
    monkeypatch.setattr("core.database.engine", lambda: create_engine(url))
    assert "password-of-the-test" not in doctor()[1]
