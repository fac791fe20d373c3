"""From the end of a job to whoever waits for it: long polls, event streams and webhooks, while the API goes on.

    python -m benchmarks.result_latency

Starts a Postgres, a Valkey, the API and a courier of its own, opens 300 long polls and 200 event streams on 60 jobs of
5 lines, reads the lines as a worker would, and prints percentiles in milliseconds. Latency is counted from before the
transaction that ends the job, so that it holds the commit too.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.embedded_postgres import running_postgres
from cli.embedded_valkey import running_valkey

POLLS = 300
STREAMS = 200
JOBS = 60
LINES = 5
PAUSE_S = 0.05
PORT = 18411
RECEIVER_PORT = 18412


@dataclass(kw_only=True)
class Measured:
    """When each job ended, and when each waiter heard of it, in seconds of one clock."""

    ended: dict[str, float] = field(default_factory=dict)
    polls: list[tuple[str, float]] = field(default_factory=list)
    streams: list[tuple[str, float]] = field(default_factory=list)
    webhooks: list[tuple[str, float]] = field(default_factory=list)
    #: How long the transactions took that ended jobs, their notices included.
    ends_s: list[float] = field(default_factory=list)
    #: How long other requests took meanwhile.
    others_s: list[float] = field(default_factory=list)

    def report(self) -> None:
        """Print a row for each kind of waiter."""
        for name, heard in (("poll", self.polls), ("stream", self.streams), ("webhook", self.webhooks)):
            _row(name, [at - self.ended[job_id] for job_id, at in heard])
        _row("of it, ending", self.ends_s)
        _row("other GETs", self.others_s)


def _row(name: str, seconds: list[float]) -> None:
    cuts = statistics.quantiles([1000 * each for each in seconds], n=100)
    print(f"{name:14} n={len(seconds):4}  p50 {cuts[49]:7.1f}  p95 {cuts[94]:7.1f}  p99 {cuts[98]:7.1f} ms")


def main() -> None:
    """Measure once and print."""
    with tempfile.TemporaryDirectory(prefix="inkqueue-bench") as folder, _service(Path(folder)) as key:
        measured = Measured()
        asyncio.run(_measure(key, measured))
        measured.report()


@contextmanager
def _service(folder: Path) -> Iterator[str]:
    """The service without a worker; an API key."""
    with running_postgres(folder) as database_url, running_valkey(folder) as redis_url:
        os.environ |= {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "INKQUEUE_STORAGE_URL": f"file://{folder}/images",
            "INKQUEUE_MODELS": "none",
            "INKQUEUE_SECRET_KEY": "only for this measurement, 32 characters",
            "INKQUEUE_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
            "INKQUEUE_WEBHOOK_ALLOW_PORTS": str(RECEIVER_PORT),
            "INKQUEUE_LOG_LEVEL": "warning",
        }
        from core import accounts
        from core.database import engine, migrate, transaction

        migrate(database_url)
        with transaction() as connection:
            account_id = accounts.ensure_account(connection, "bench")
            key = accounts.create_key(connection, account_id=account_id, name="bench")
        api = [sys.executable, "-m", "gunicorn", "-c", "python:api.server", "-b", f"127.0.0.1:{PORT}"]
        commands = ([*api, "api.app:create_app()"], [sys.executable, "-m", "worker.courier"])
        processes = [subprocess.Popen(command) for command in commands]
        try:
            yield key
        finally:
            for process in processes:
                process.terminate()
                process.wait(40)
            engine().dispose()


async def _measure(key: str, measured: Measured) -> None:
    receiver = await asyncio.start_server(lambda r, w: _receive(r, w, measured), "127.0.0.1", RECEIVER_PORT)
    await _until_ready()
    jobs = [json.loads(await _request(key, "POST", "/v1/jobs", _submission()))["id"] for _ in range(JOBS)]
    waiters: list[Coroutine[None, None, None]] = [
        *(_poll(key, jobs[number % JOBS], measured) for number in range(POLLS)),
        *(_follow(key, jobs[number % JOBS], measured) for number in range(STREAMS)),
    ]
    waiting = [asyncio.create_task(waiter) for waiter in waiters]
    others = asyncio.create_task(_look(key, jobs[0], measured))
    await asyncio.sleep(3)  # all of them wait now
    await asyncio.to_thread(_read_all, measured)
    await asyncio.gather(*waiting)
    others.cancel()
    while len(measured.webhooks) < JOBS:
        await asyncio.sleep(0.01)
    receiver.close()


def _submission() -> bytes:
    import base64
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (40, 8), "white").save(file, "PNG")
    image = {"base64": base64.b64encode(file.getvalue()).decode()}
    webhook_url = f"http://127.0.0.1:{RECEIVER_PORT}/hook"
    return json.dumps({"images": [image] * LINES, "webhook_url": webhook_url}).encode()


def _read_all(measured: Measured) -> None:
    """What a worker does, image by image."""
    from core import outcomes
    from core.claims import claim
    from core.outcomes import Outcome
    from core.transcript import BoundingBox, Line

    box = BoundingBox(xmin=0, ymin=0, xmax=40, ymax=8)
    line = Line(index=0, text="irlandais", confidence=0.9, bbox=box, flags=(), words=())
    pause = threading.Event()
    left: dict[str, int] = {}
    while claims := claim("wrk_bench", "none", most=1):
        (found,) = claims
        left[found.job_id] = left.get(found.job_id, LINES) - 1
        if left[found.job_id] == 0:
            measured.ended[found.job_id] = time.monotonic()
        outcomes.finish([Outcome(image_id=found.image_id, job_id=found.job_id, attempt=found.attempt, lines=(line,))])
        if left[found.job_id] == 0:
            measured.ends_s.append(time.monotonic() - measured.ended[found.job_id])
        pause.wait(PAUSE_S)


async def _until_ready() -> None:
    while True:
        try:
            await _request("none", "GET", "/livez")
            return
        except OSError:
            await asyncio.sleep(0.1)


async def _poll(key: str, job_id: str, measured: Measured) -> None:
    await _request(key, "GET", f"/v1/jobs/{job_id}?wait=60")
    measured.polls.append((job_id, time.monotonic()))


async def _follow(key: str, job_id: str, measured: Measured) -> None:
    reader, writer = await _open(key, "GET", f"/v1/jobs/{job_id}/events", b"")
    while line := await reader.readline():
        if line.startswith(b"event: done"):
            measured.streams.append((job_id, time.monotonic()))
    writer.close()


async def _look(key: str, job_id: str, measured: Measured) -> None:
    while True:
        began = time.monotonic()
        await _request(key, "GET", f"/v1/jobs/{job_id}")
        measured.others_s.append(time.monotonic() - began)
        await asyncio.sleep(0.05)


async def _request(key: str, method: str, path: str, body: bytes = b"") -> bytes:
    reader, writer = await _open(key, method, path, body)
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


async def _open(key: str, method: str, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, measured: Measured) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().lower().splitlines()[1:] if line)
    event = json.loads(await reader.readexactly(int(fields["content-length"])))
    measured.webhooks.append((event["data"]["id"], time.monotonic()))
    writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


if __name__ == "__main__":
    main()
