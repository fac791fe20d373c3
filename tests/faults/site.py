"""Where faults happen: the whole service under load, a network to its Redis, and a receiver of its webhooks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg

from cli.tether import descendants
from tests.faults.load import Load
from tests.faults.redis_proxy import RedisProxy
from tests.faults.wedge import MODEL
from tests.receiver import Receiver, receiving
from tests.service import Service, free_port, running_service
from tests.waiting import wait_until

LINE = Path("tests/data/line.jpg").resolve()

#: What the processes are called in their command lines.
API, WORKER, COURIER, CLERK = "gunicorn", "tests.faults.worker", "worker.courier", "api.clerk"
POSTGRES, VALKEY = "/bin/postgres", "valkey-server"
_ALL = (API, WORKER, COURIER, CLERK, POSTGRES, VALKEY)


class Site:
    """One state folder and whatever service runs on it.

    Args:
        state_dir: The folder.
        receiver: Gets the webhooks.
        outage_s: How long the network is away when it is away, seconds.
    """

    def __init__(self, state_dir: Path, receiver: Receiver, *, outage_s: float) -> None:
        self.state_dir = state_dir
        self.receiver = receiver
        self.outage_s = outage_s
        self._valkey_port = free_port()
        self.redis_network = RedisProxy(self._valkey_port)
        self._running = ExitStack()
        self.service = self._started()
        self.load = Load(self.service, [(LINE.name, LINE.read_bytes())], webhook_url=receiver.url)

    def restart(self, number: signal.Signals) -> int:
        """End all of the service by a signal to `inkqueue up`, start it on the same folder; the exit status."""
        self.service.process.send_signal(number)
        status = self.service.process.wait(90)
        self._running.close()
        self.service = self.load.service = self._started()
        return status

    def close(self) -> None:
        """End the load and the service."""
        self.load.close()
        self._running.close()
        self.redis_network.close()

    def processes(self, name: str) -> list[int]:
        """The service's processes of this name, a parent before its children."""
        found = [pid for pid in descendants(self.service.process.pid) if _is_called(pid, name)]
        return sorted(found, key=lambda pid: len(descendants(pid)), reverse=True)

    def process(self, name: str) -> int:
        """The process of this name, and of several the parent; waits for it if it is just being started."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = self.processes(name)
            return bool(found)

        wait_until(is_there, timeout_s=60)
        return found[0]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send the process a signal; its pid."""
        pid = self.process(name)
        os.kill(pid, number)
        return pid

    @contextmanager
    def second_worker(self) -> Iterator[None]:
        """Another worker beside the service's, while the block lasts; it has its lease when the block begins."""
        environment = os.environ | self.service.environment
        before = self.workers()
        command = [sys.executable, "-m", WORKER]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
            try:
                wait_until(lambda: self.workers() - before, timeout_s=60)
                yield
            finally:
                worker.terminate()
                worker.wait(60)

    def workers(self) -> set[str]:
        """The ids of the workers that hold a lease."""
        return {worker_id for (worker_id,) in self.service.rows("SELECT id FROM workers")}

    def is_whole(self) -> bool:
        """Whether every process is there, and the API answers that nothing is missing."""
        if not all(self.processes(name) for name in _ALL):
            return False
        try:
            answer = httpx.get(self.service.http.base_url.join("/readyz"), timeout=5)
            return answer.status_code == 200 and answer.json()["degraded"] == []
        except httpx.TransportError:
            return False

    def count(self, query: str, *parameters: object) -> int | None:
        """A number that the database tells; None while it is away."""
        try:
            ((number,),) = self.service.rows(query, *parameters)
        except psycopg.OperationalError:
            return None
        return int(number)

    def _started(self) -> Service:
        settings = {
            "INKQUEUE_MODELS": MODEL,
            "INKQUEUE_SIGNUP_GRANT_CREDITS": "1000000",
            "INKQUEUE_LEASE_S": "3",
            "INKQUEUE_STALL_S": "5",
            "INKQUEUE_DECODE_TIMEOUT_S": "5",
            "INKQUEUE_DECODE_MEMORY_BYTES": str(2**29),
            "INKQUEUE_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
            "INKQUEUE_WEBHOOK_ALLOW_PORTS": str(self.receiver.port),
            "INKQUEUE_WEBHOOK_TIMEOUT_S": "3",
        }
        program = ["tests.faults.up", str(self.redis_network.port), str(self._valkey_port)]
        service = self._running.enter_context(running_service(self.state_dir, program=program, **settings))
        # Known from now on, whatever is dead when it is first asked for.
        assert service.environment["REDIS_URL"]
        return service


@contextmanager
def running_site(state_dir: Path, *, outage_s: float) -> Iterator[Site]:
    """A site while the block lasts."""
    with receiving() as receiver:
        site = Site(state_dir, receiver, outage_s=outage_s)
        try:
            yield site
        finally:
            site.close()


def _is_called(pid: int, name: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return False
    is_tether = words[1:3] == ["-I", "-S"]
    return not is_tether and any(name in word for word in words)
