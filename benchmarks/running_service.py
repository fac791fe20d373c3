"""The whole service for a measurement: embedded Postgres and Valkey, then API, courier and workers as processes."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString
from urllib.error import URLError
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]  # it ships no types
import psycopg

from cli.commands import COURIER_COMMAND, api_command
from cli.embedded_postgres import running_postgres
from cli.embedded_valkey import running_valkey
from core import accounts, credits
from core.database import engine, migrate, transaction
from core.grants import Terms
from core.settings import settings

_READY_S = 120.0
_LOOK_S = 0.05
#: A word of a process's command line, and the part of the service that it is; the first that is found counts.
_PARTS = {
    "decoding_child": "decoding",
    "worker.courier": "courier",
    "worker": "worker",
    "gunicorn": "api",
    "valkey": "valkey",
    "postgres": "postgres",
}


@dataclass(frozen=True, kw_only=True)
class RunningService:
    """A service that answers, and what a measurement asks of it beside HTTP."""

    port: int
    #: One of each account, all of which are rich enough.
    keys: Sequence[str]

    def succeeded_jobs(self) -> int:
        """Jobs that were read, as Postgres says."""
        with _database() as connection:
            return _count(connection, "status = 'succeeded'")

    def wait_until_all_ended(self, *, timeout_s: float) -> None:
        """Return when no job is in flight any more, as Postgres says.

        Raises:
            TimeoutError: Some are.
        """
        deadline = time.monotonic() + timeout_s
        with _database() as connection:
            while left := _count(connection, "status IN ('queued', 'running')"):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{left} jobs have not ended within {timeout_s:.0f} s")
                time.sleep(_LOOK_S)

    def core_seconds(self) -> dict[str, float]:
        """Seconds of a core that each part of the service has used so far; this process is `load`."""
        used = {"load": time.process_time()}
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                part = _part(" ".join(process.cmdline()))
                # Those that have ended are counted with their parent, such as Postgres's processes.
                used[part] = used.get(part, 0.0) + sum(times[:4])
        return used


def _database() -> psycopg.Connection:
    return psycopg.connect(settings().database_url.replace("+psycopg", ""), autocommit=True)


def _count(connection: psycopg.Connection, condition: LiteralString) -> int:
    row = connection.execute(f"SELECT count(*) FROM jobs WHERE {condition}").fetchone()
    assert row
    return int(row[0])


def _part(command: str) -> str:
    """Which part of the service a command line belongs to."""
    return next((part for word, part in _PARTS.items() if word in command), "other")


@contextmanager
def running_service(
    worker: Sequence[str],
    *,
    models: str,
    customers: int = 1,
    processes: int = 1,
) -> Iterator[RunningService]:
    """Run a service of its own while the block lasts, in a new folder, with accounts that are rich enough.

    Args:
        worker: The command line of a worker.
        models: What `INKQUEUE_MODELS` says.
        customers: Accounts, each of which has a key.
        processes: Worker processes, and as many of the API behind one port.
    """
    with tempfile.TemporaryDirectory(prefix="inkqueue-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        port = _free_port()
        os.environ |= {
            "DATABASE_URL": stack.enter_context(running_postgres(folder)),
            "REDIS_URL": stack.enter_context(running_valkey(folder)),
            "INKQUEUE_STORAGE_URL": f"file://{folder}/images",
            "INKQUEUE_MODELS": models,
            "INKQUEUE_API_PROCESSES": str(processes),
            "INKQUEUE_SECRET_KEY": secrets.token_hex(16),
        }
        settings.cache_clear()
        engine.cache_clear()
        stack.callback(lambda: engine().dispose())
        migrate(settings().database_url)
        keys = [_rich_key(f"benchmark {number}") for number in range(customers)]
        for command in (api_command("127.0.0.1", port), COURIER_COMMAND, *[worker] * processes):
            stack.enter_context(_running(command))
        _wait_until_ready(port)
        yield RunningService(port=port, keys=keys)


def _rich_key(account: str) -> str:
    with transaction() as connection:
        account_id = accounts.ensure_account(connection, account)
        credits.grant(
            connection, account_id=account_id, amount_micro=10**15, reason="benchmark", terms=Terms(priority=1)
        )
        return accounts.create_key(connection, account_id=account_id, name="benchmark")


@contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + _READY_S
    while not _is_ready(port):
        if time.monotonic() > deadline:
            sys.exit(f"the service was not ready within {_READY_S:.0f} s")
        time.sleep(_LOOK_S)


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            body: bytes = answer.read()
    except (URLError, OSError):
        return False
    return b"worker" not in body


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
