from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from core.database import transaction
from core.webhook_secrets import ensure_secret
from core.webhooks import JobWebhook
from tests.domain import new_caller
from tests.waiting import wait_until
from tests.webhook_domain import deliveries, ended_job

pytestmark = pytest.mark.usefixtures("courier")

RECEIVERS = {
    "flask": [sys.executable, "docs/examples/receiver.py"],
    "node": [shutil.which("node") or "node", "docs/examples/receiver.mjs"],
}


@contextmanager
def receiver(command: list[str], secret: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret, "PORT": port}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = f"http://127.0.0.1:{port}/hook"
            wait_until(lambda: refuses_strangers(url))
            yield url, process
        finally:
            process.terminate()


def refuses_strangers(url: str) -> bool:
    try:
        return httpx.post(url, content=b"{}").status_code == 400
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("name", RECEIVERS)
def test_the_receivers_of_the_documentation_verify_and_print_an_event(name: str) -> None:
    if name == "node" and shutil.which("node") is None:
        pytest.skip("node is not installed")
    caller = new_caller()
    with transaction() as connection:
        secret = ensure_secret(connection, caller.account_id)
    with receiver(RECEIVERS[name], secret) as (url, process):
        job_id = ended_job(caller, JobWebhook(url=url, include_text=True))
        wait_until(lambda: deliveries(caller, status="delivered"))
        process.terminate()
        assert process.stdout is not None
        assert f"job.completed {job_id} irlandais" in process.stdout.read()
