"""What was sent, and what opens doors, never stands in a log: everything that can go wrong, at every level."""

from __future__ import annotations

import base64
import io
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from gunicorn.config import Config
from sqlalchemy import create_engine, text

from api.server import ServiceLog
from core import jobs
from core.database import transaction
from core.logs import configure_logging
from core.redis_address import redis_client
from core.settings import settings
from tests.domain import new_caller, png, rows, submit_lines
from tests.environments import users_environment
from tests.fakes import FakeRecognizer
from tests.receiver import receiving, status
from tests.waiting import wait_until
from tests.webhook_domain import deliveries, endpoint
from tests.workers import pumped, worker_of
from worker.sweeper import Sweeper

PASSWORD = "hunter2-and-more"
PICTURE = base64.b64encode(png()).decode()
TOKEN = "tok_7d1f9b"
#: What people wrote.
WORDS = "Testament of Jeanne"


@pytest.fixture(params=["json", "console"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The log of this process as its operator reads it, at its most talkative."""
    written = io.StringIO()
    monkeypatch.setenv("INKQUEUE_LOG_FORMAT", request.param)
    monkeypatch.setenv("INKQUEUE_LOG_LEVEL", "debug")
    settings.cache_clear()
    configure_logging()
    _write_into(written)
    yield written
    monkeypatch.undo()
    settings.cache_clear()
    configure_logging()


def _write_into(written: io.StringIO) -> None:
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)


def assert_silent(log: io.StringIO, *secrets: str, said: tuple[str, ...]) -> None:
    """None of these stands in the log, and all of what was said does."""
    lines = log.getvalue()
    assert not [word for word in said if word not in lines], lines
    for secret in (PASSWORD, TOKEN, WORDS, PICTURE[:24], *secrets):
        assert secret not in lines


def test_requests_leave_neither_keys_nor_what_they_carry(
    webhooks_to_here: None, http: FlaskClient, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    del webhooks_to_here
    key = str(http.environ_base["HTTP_AUTHORIZATION"]).removeprefix("Bearer ")
    secrets = [key, *(http.post("/v1/keys", json={"name": "x"}).get_json()["key"] for _ in range(2))]
    secrets.append(http.get("/v1/webhook_secret").get_json()["secret"])
    secrets.append(http.post("/v1/webhook_secret/rotate_secret", json={}).get_json()["secret"])
    with_password = f"http://bob:{PASSWORD}@example.org/line.png?signature={TOKEN}"
    for body in (
        {"images": [{"base64": PICTURE}], "metadata": {"title": WORDS}},
        {"images": [{"url": f"data:image/png;base64,{PICTURE}"}], "webhook_url": with_password},
        {"images": [{"url": with_password}]},
        {"images": [{"url": f"http://10.0.0.1/?t={TOKEN}"}]},
        {"images": [{"base64": PICTURE}], WORDS: key},
    ):
        http.post("/v1/jobs", json=body)
    http.post("/v1/jobs", data=png(), content_type="image/png", query_string={"metadata[title]": WORDS})
    http.post("/v1/jobs", data={"image": (io.BytesIO(png()), WORDS), "webhook_url": with_password})
    http.get("/v1/jobs", query_string={"metadata[title]": WORDS})
    http.get("/v1/jobs", headers={"Authorization": f"Bearer {key}x", "X-Request-Id": key})
    http.get(f"/v1/models/{key}")

    def defect(*_: object) -> None:
        with transaction() as connection:
            connection.execute(text("INSERT INTO accounts (id, name) VALUES (:name, NULL)"), {"name": WORDS})

    monkeypatch.setattr("api.account_routes.price_list", defect)
    assert http.get("/v1/pricing").status_code == 500

    def told_too_much() -> None:
        raise RuntimeError(f"{with_password} {key} data:image/png;base64,{PICTURE}")

    monkeypatch.setattr("api.account_routes.price_list", told_too_much)
    assert http.get("/v1/pricing").status_code == 500
    assert_silent(log, *secrets, settings().secret_key, said=("a request failed", "Traceback", "NotNullViolation"))


def test_outages_leave_no_passwords(http: FlaskClient, log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = http.post("/v1/jobs", data=png(), content_type="image/png").get_json()["id"]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"inkqueue:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}/0"
        monkeypatch.setenv("REDIS_URL", f"redis://{nowhere}")
        for cached in (settings, redis_client):
            cached.cache_clear()
        assert http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
        monkeypatch.undo()
        for cached in (settings, redis_client):
            cached.cache_clear()
        postgres = create_engine(f"postgresql+psycopg://{nowhere}")
        monkeypatch.setattr("core.database.engine", lambda: postgres)
        assert http.get("/v1/jobs").status_code == 503
        with pytest.raises(Exception, match="database"):
            Sweeper().sweep()
        postgres.dispose()
    assert_silent(log, said=("Redis is away", "503"))


def test_a_worker_leaves_nothing_of_what_it_reads(log: io.StringIO) -> None:
    caller = new_caller()

    def step() -> None:
        raise ValueError(f"postgresql://inkqueue:{PASSWORD}@db/")

    with worker_of(FakeRecognizer(on_step=step)) as transcription, pumped(transcription):
        submit_lines(caller)
        wait_until(lambda: rows("SELECT count(*) FROM jobs WHERE status = 'failed'") == [(1,)])
    assert_silent(log, said=("step_failed",))


@pytest.mark.usefixtures("courier")
def test_a_courier_leaves_neither_secrets_nor_the_queries_of_addresses(log: io.StringIO) -> None:
    caller = new_caller()
    elsewhere = f"https://bob:{PASSWORD}@example.org/?token={TOKEN}"
    with receiving(status(302, headers={"Location": elsewhere, "Set-Cookie": "a=b"}, body=WORDS.encode())) as receiver:
        _, secret = endpoint(caller, receiver)
        jobs.cancel(caller, submit_lines(caller))
        wait_until(lambda: deliveries(caller)[0].attempts)
        signature = receiver.requests[0].headers["webhook-signature"]
    assert_silent(log, secret, secret.removeprefix("whsec_"), signature, said=("302",))


def test_a_setting_that_is_refused_is_named_and_not_shown() -> None:
    environment = users_environment(INKQUEUE_SECRET_KEY="short-" + PASSWORD[:6], PYTHONPATH=".")
    done = subprocess.run(
        [sys.executable, "-c", "from core.settings import settings; settings()"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode
    assert "secret_key" in done.stderr and "32 characters" in done.stderr
    assert PASSWORD[:6] not in done.stderr


@pytest.mark.parametrize("log", ["json"], indirect=True)
def test_what_gunicorn_itself_logs_of_a_request_is_in_the_services_log(log: io.StringIO) -> None:
    ours = ServiceLog(Config())
    _write_into(log)
    ours.warning("Invalid request from ip=%s: Invalid HTTP Header: %r", "10.0.0.1", f"Authorization Bearer {TOKEN}")
    ours.exception("Error handling request %s %s", "GET", f"/v1/jobs?metadata[name]={WORDS}".replace(" ", "+"))
    assert_silent(log, "Testament+of", said=('"level": "warning"', "Invalid HTTP Header", "GET /v1/jobs?***"))


@pytest.mark.parametrize("log", ["json"], indirect=True)
def test_a_line_of_the_log_stays_json_whatever_is_taken_out(
    log: io.StringIO,
) -> None:
    logging.getLogger("library").error('DETAIL: "%s" %s', WORDS, 'http://u:p@example.org/?a="b"')
    lines = log.getvalue().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["DETAIL: ***"]
