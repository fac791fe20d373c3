"""A real Postgres and a real Valkey for every test here: started once, emptied before each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, text

from api.app import create_app
from api.live_texts import live_texts
from api.waiting import job_waits
from cli.embedded_postgres import running_postgres
from cli.embedded_valkey import running_valkey
from core.admission import queue_watch
from core.database import engine, migrate, transaction
from core.queue import celery_app
from core.redis_address import redis_client, redis_patience
from core.settings import settings
from tests.domain import new_key
from tests.fakes import FakeRecognizer
from tests.openai_clients import client_of, serving
from tests.tables import Base
from tests.webhook_domain import delivering
from tests.workers import Brake, pumped, worker_of


@pytest.fixture(scope="session", autouse=True)
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The two servers and a folder for images, named to the settings by the environment, as in production."""
    folder: Path = tmp_path_factory.mktemp("servers")
    with running_postgres(folder) as database_url, running_valkey(folder) as redis_url:
        os.environ |= {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "INKQUEUE_STORAGE_URL": f"file://{folder}/images",
            "INKQUEUE_MODELS": "fake",
        }
        for cached in (settings, engine, celery_app, redis_client):
            cached.cache_clear()
        migrate(database_url)
        yield
        for listening in (job_waits, live_texts):
            if listening.cache_info().currsize:
                listening().close()
        celery_app().close()
        redis_client().close()
        engine().dispose()


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    # Tables of a few rows are emptied many times faster by DELETE than by TRUNCATE, which makes new files.
    with transaction(durable=False) as connection:
        # The ledger refuses to be emptied; a superuser's session that replays another server's rows is not asked.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))
    redis_client().flushall()
    for cached in (queue_watch, redis_patience):
        cached.cache_clear()


@pytest.fixture(scope="session")
def application(servers: None) -> FlaskClient:
    """The API, without a key."""
    del servers
    return create_app().test_client()


@pytest.fixture
def http(application: FlaskClient) -> Iterator[FlaskClient]:
    """A client with a key that may do everything."""
    application.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {new_key()}"
    yield application
    application.environ_base.pop("HTTP_AUTHORIZATION", None)


@pytest.fixture
def webhooks_to_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Webhooks may be sent to this machine; 5 s between attempts become 25 ms, and the timeout 1 s."""
    monkeypatch.setenv("INKQUEUE_SECRET_KEY", "a secret key of the tests, long enough")
    monkeypatch.setenv("INKQUEUE_WEBHOOK_ALLOW_CIDRS", "127.0.0.0/8")
    monkeypatch.setenv("INKQUEUE_WEBHOOK_ALLOW_PORTS", ",".join(map(str, range(1, 65536))))
    monkeypatch.setenv("INKQUEUE_WEBHOOK_SCHEDULE_SCALE", "0.005")
    monkeypatch.setenv("INKQUEUE_WEBHOOK_TIMEOUT_S", "1")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def courier(webhooks_to_here: None) -> Iterator[None]:
    """A courier that delivers."""
    del webhooks_to_here
    with delivering():
        yield


@pytest.fixture(scope="session")
def address(servers: None) -> Iterator[str]:
    """The API in a server of its own, for clients that need a real one."""
    del servers
    with serving() as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    """OpenAI's client with a key that may do everything."""
    with client_of(address, new_key()) as client:
        yield client


@pytest.fixture
def worker() -> Iterator[FakeRecognizer]:
    """A worker at work, and what it reads with."""
    recognizer = FakeRecognizer(rows=8)
    with worker_of(recognizer) as transcription, pumped(transcription):
        yield recognizer


@pytest.fixture
def brake() -> Iterator[Brake]:
    """A worker that makes its steps, ten a line, as it is allowed to."""
    brake = Brake()
    recognizer = FakeRecognizer(rows=32, on_step=brake, steps=10)
    with worker_of(recognizer) as transcription, pumped(transcription):
        yield brake
        brake.allow(1000)
