"""The whole service as its user starts it and as its operator looks after it: `inkqueue up` in a process of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psycopg
from redis import Redis

from tests.environments import users_environment
from tests.waiting import wait_until


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service, as its user and as its operator sees it."""

    process: subprocess.Popen[str]
    #: With the first key, that of the account `default`.
    http: httpx.Client
    state_dir: Path
    #: What it has said so far.
    log: list[str]

    def submit(self, *files: Path, **options: str) -> str:
        """Submit a job of files; its id."""
        answer = self.http.post("/v1/jobs", files=[("image", (f.name, f.read_bytes())) for f in files], data=options)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def ended(self, job_id: str, *, timeout_s: float = 60) -> dict[str, Any]:
        """The job once it has ended."""
        jobs: list[dict[str, Any]] = []

        def has_ended() -> bool:
            jobs[:] = [self.http.get(f"/v1/jobs/{job_id}", params={"wait": 5}).json()]
            return jobs[0]["status"] not in ("queued", "running")

        wait_until(has_ended, timeout_s=timeout_s)
        return jobs[0]

    def children(self, command: str) -> list[int]:
        """Processes of the service whose command line holds this word."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and self._is_ours(entry) and command in _command_line(entry)
        ]

    def _is_ours(self, entry: Path) -> bool:
        try:
            return f"PROMETHEUS_MULTIPROC_DIR={self.state_dir}/" in (entry / "environ").read_text(errors="replace")
        except OSError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """A figure of `/metrics`, summed over its series with these labels."""
        total = 0.0
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(name) and all(f'{label}="{value}"' in line for label, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def command(self, *words: str) -> str:
        """What an operator's command says; it succeeds."""
        environment = users_environment(DATABASE_URL=self.environment["DATABASE_URL"])
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the database says."""
        with self.postgres() as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def postgres(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection to the service's database."""
        return psycopg.connect(self.environment["DATABASE_URL"].replace("+psycopg", ""))

    def redis(self) -> Redis:
        """The service's Redis."""
        url = self.environment["REDIS_URL"]
        return Redis.from_url(url.replace("redis+socket://", "unix://").replace("virtual_host", "db"))

    @cached_property
    def environment(self) -> dict[str, str]:
        """What its processes find in theirs."""
        wait_until(lambda: self.children("worker.courier"))  # it may be just being started anew
        entry = Path("/proc") / str(self.children("worker.courier")[0]) / "environ"
        return dict(re.findall(r"([A-Z_]+)=([^\0]*)", entry.read_text()))


def _command_line(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


@contextmanager
def running_service(state_dir: Path, *, program: Sequence[str] = ("cli.main",), **settings: str) -> Iterator[Service]:
    """`inkqueue up` under these settings, while the block lasts.

    Args:
        state_dir: Its folder.
        program: The module that stands for the command `inkqueue`, and what comes before `up`.
        settings: Environment variables.
    """
    port = free_port()
    command = [sys.executable, "-m", *program, "up", "--port", str(port), "--state-dir", str(state_dir)]
    with subprocess.Popen(
        command,
        env=users_environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        log: list[str] = []
        assert process.stdout
        reader = threading.Thread(target=lambda: log.extend(process.stdout or ()), daemon=True)
        reader.start()
        try:
            wait_until(lambda: process.poll() is not None or any("curl" in line for line in log), timeout_s=100)
            assert process.poll() is None, "".join(log)
            key = (state_dir / "api_key").read_text().strip()
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=70) as http:
                yield Service(process=process, http=http, state_dir=state_dir, log=log)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            reader.join(10)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
