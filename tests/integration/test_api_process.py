from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from core import accounts, outcomes
from core.accounts import Caller
from core.claims import claim
from core.database import transaction
from tests.domain import MODEL, new_caller, png, read, rows, submit_lines
from tests.openai_clients import data_url
from tests.waiting import wait_until

THREADS = 16
#: Three quarters of the threads.
MAY_WAIT = 12
#: More than that, and more than all threads.
WAITS = 40


@pytest.fixture
def caller() -> Caller:
    return new_caller()


@pytest.fixture
def api(caller: Caller) -> Iterator[tuple[subprocess.Popen[bytes], str, dict[str, str]]]:
    """A real API process of few threads: itself, its address, and the headers of a caller."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with transaction() as connection:
        key = accounts.create_key(connection, account_id=caller.account_id, name="test")
    command = [sys.executable, "-m", "gunicorn", "-c", "python:api.server", "-b", address, "api.app:create_app()"]
    environment = os.environ | {"PYTHONPATH": ".", "INKQUEUE_API_THREADS": str(THREADS)}
    with subprocess.Popen(command, env=environment) as process:
        try:
            wait_until(lambda: _answers(address))
            yield process, f"http://{address}", {"Authorization": f"Bearer {key}"}
        finally:
            process.terminate()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/livez").is_success
    except httpx.HTTPError:
        return False


def follow(url: str, headers: dict[str, str], told: list[str]) -> None:
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        told.extend(line for line in answer.iter_lines() if line.startswith("event"))


def test_streams_beyond_the_threads_do_not_keep_the_api_from_answering(
    api: tuple[subprocess.Popen[bytes], str, dict[str, str]], caller: Caller
) -> None:
    _, address, headers = api
    job_id = submit_lines(caller)
    url = f"{address}/v1/jobs/{job_id}/events"
    told: list[list[str]] = [[] for _ in range(WAITS)]
    followers = [threading.Thread(target=follow, args=(url, headers, lines)) for lines in told]
    for follower in followers:
        follower.start()
    wait_until(lambda: all(told) and sum(follower.is_alive() for follower in followers) == MAY_WAIT)
    began = time.monotonic()
    answer = httpx.get(f"{address}/v1/jobs/{job_id}", headers=headers)
    assert answer.json()["status"] == "queued"
    assert answer.headers.get_list("Server") == ["gunicorn"]  # and not which version of it
    assert time.monotonic() - began < 3
    outcomes.finish([read(found) for found in claim("wrk_1", MODEL, most=1)])
    for follower in followers:
        follower.join(20)
    waited = [lines for lines in told if lines[-1] == "event: done"]
    assert len(waited) == MAY_WAIT


def test_polls_and_streams_end_at_once_when_the_process_is_told_to_stop(
    api: tuple[subprocess.Popen[bytes], str, dict[str, str]], caller: Caller
) -> None:
    process, address, headers = api
    job_id = submit_lines(caller)
    told: list[str] = []
    answers: list[int] = []

    def poll() -> None:
        answers.append(httpx.get(f"{address}/v1/jobs/{job_id}?wait=50", headers=headers, timeout=60).status_code)

    waiting = [
        threading.Thread(target=follow, args=(f"{address}/v1/jobs/{job_id}/events", headers, told)),
        threading.Thread(target=poll),
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: told or not waiting[0].is_alive(), timeout_s=10)
    began = time.monotonic()
    process.terminate()
    for thread in waiting:
        thread.join(20)
    assert (time.monotonic() - began < 5, answers, told) == (True, [200], ["event: status"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_whose_client_goes_away_is_canceled(
    api: tuple[subprocess.Popen[bytes], str, dict[str, str]], stream: bool
) -> None:
    _, address, headers = api
    image = {"type": "image_url", "image_url": {"url": data_url(png())}}
    body = {"model": MODEL, "messages": [{"role": "user", "content": [image]}], "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/v1/chat/completions", headers=headers, json=body, timeout=1)
    wait_until(lambda: rows("SELECT status FROM jobs") == [("canceled",)])
    assert rows("SELECT held_micro FROM accounts") == [(0,)]


def test_a_chat_is_told_to_come_back_when_the_process_ends(
    api: tuple[subprocess.Popen[bytes], str, dict[str, str]],
) -> None:
    process, address, headers = api
    image = {"type": "image_url", "image_url": {"url": data_url(png())}}
    body = {"model": MODEL, "messages": [{"role": "user", "content": [image]}]}
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{address}/v1/chat/completions", headers=headers, json=body, timeout=60))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: rows("SELECT status FROM jobs") == [("queued",)])
    process.terminate()
    asking.join(20)
    assert (answers[0].status_code, answers[0].headers["Retry-After"]) == (503, "2")
    assert rows("SELECT status FROM jobs") == [("canceled",)]
