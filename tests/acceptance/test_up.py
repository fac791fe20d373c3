from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from cli.tether import descendants
from tests.environments import users_environment

ROOT = Path(__file__).resolve().parents[2]
#: What stands in the sample, but for what the model misreads.
TOWN = "Dublin"


@dataclass
class Up:
    """A running `inkqueue up`."""

    process: subprocess.Popen[str]
    address: str
    lines: list[str] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    @property
    def text(self) -> str:
        return "\n".join(list(self.lines))

    def wait_for(self, part: str) -> None:
        wait_until(lambda: part in self.text or self.process.poll() is not None)
        assert part in self.text, self.text

    def curl_lines(self) -> list[str]:
        return [line.strip() for line in self.lines if line.startswith("  curl ")]

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def worker_pid(self) -> int:
        """The worker itself, not its tether."""
        (pid,) = (pid for pid in descendants(self.process.pid) if _arguments(pid)[1:3] == ["-m", "worker.main"])
        return pid


@contextmanager
def started(state: Path, port: int) -> Iterator[Up]:
    command = [sys.executable, "-m", "cli.main", "up", "--port", str(port), "--state-dir", str(state)]
    # One model that needs no torch: it is loaded in a second.
    environment = users_environment(INKQUEUE_MODELS="ppocr-v6")
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        up = Up(process, f"http://127.0.0.1:{port}")
        reader = threading.Thread(target=up.read)
        reader.start()
        try:
            yield up
        finally:
            process.terminate()
            reader.join()


def inkqueue(*arguments: str) -> str:
    command = [sys.executable, "-m", "cli.main", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=users_environment(), capture_output=True, text=True, check=True)
    return done.stdout


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if _arguments(pid)}


def _arguments(pid: int) -> list[str]:
    """The command line of a process; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def get(up: Up, path: str, key: str) -> dict[str, Any]:
    request = Request(f"{up.address}{path}", headers={"Authorization": f"Bearer {key}"})
    with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
        body: dict[str, Any] = json.load(answer)
        return body


def test_from_nothing_to_a_line_that_is_read(tmp_path: Path) -> None:
    with started(tmp_path / "state", free_port()) as up:
        up.wait_for("inkqueue is up. ppocr-v6 read tests/data/line.jpg in ")
        up.wait_for("?wait=30'")
        assert TOWN in up.text
        key_file = tmp_path / "state" / "api_key"
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        assert key_file.read_text().strip() in up.text
        # The lines work as they are pasted.
        submit, poll = (
            subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for line in up.curl_lines()
        )
        assert json.loads(submit)["status"] == "queued"
        assert "images ended" in up.text, "what a worker tells at its work is seen"
        assert TOWN in json.loads(poll)["text"]


def test_ctrl_c_ends_all_of_it_and_a_second_start_keeps_jobs_and_the_key(tmp_path: Path) -> None:
    with started(tmp_path, free_port()) as first:
        first.wait_for("?wait=30'")
        key = (tmp_path / "api_key").read_text().strip()
        (path,) = re.findall(r"/v1/jobs/job_\w+(?=\?wait=30)", first.text)
        below = descendants(first.process.pid)
        assert len(below) > 10
        assert first.stop(signal.SIGINT) == 0
        assert alive(below) == set()
        assert first.lines[-1] == "inkqueue | stopped"
    with started(tmp_path, free_port()) as second:
        second.wait_for("?wait=30'")
        assert (tmp_path / "api_key").read_text().strip() == key
        assert TOWN in get(second, path, key)["text"]
        assert second.stop(signal.SIGTERM) == 0


def test_a_key_file_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    with started(tmp_path, free_port()) as first:
        first.wait_for("?wait=30'")
        key = (tmp_path / "api_key").read_text().strip()
        first.stop(signal.SIGINT)
    (tmp_path / "api_key").unlink()
    with started(tmp_path, free_port()) as second:
        second.wait_for("?wait=30'")
        made = (tmp_path / "api_key").read_text().strip()
        assert made != key
        assert get(second, "/v1/credits", made) == get(second, "/v1/credits", key)  # of the same account


def test_a_second_start_on_one_folder_says_who_holds_it(tmp_path: Path) -> None:
    with started(tmp_path, free_port()) as first:
        first.wait_for("api ")
        with started(tmp_path, free_port()) as second:
            assert second.process.wait(timeout=60) == 1
            second.wait_for("Stop it first, or choose another --state-dir.")
            assert f"process {first.process.pid}, since 20" in second.text
            assert f"at {first.address}" in second.text


def test_nothing_is_left_of_a_killed_run_and_the_next_one_starts_at_once(tmp_path: Path) -> None:
    with started(tmp_path, port := free_port()) as first:
        first.wait_for("?wait=30'")
        below = descendants(first.process.pid)
        first.process.kill()
    with started(tmp_path, port) as second:
        second.wait_for("?wait=30'")
        assert alive(below) == set()


def test_the_operators_commands_reach_the_database_of_the_running_service(tmp_path: Path) -> None:
    with started(tmp_path, free_port()) as up:
        up.wait_for("?wait=30'")
        made = inkqueue("keys", "--state-dir", str(tmp_path), "create", "--account", "archive").strip()
        assert "2000 credits available" in inkqueue("credits", "--state-dir", str(tmp_path), "grant", "archive", "1000")
        assert get(up, "/v1/credits", made)["available"] == 2000
        assert "for 3 days" in inkqueue("retention", "--state-dir", str(tmp_path), "archive", "3")
        assert "ppocr-v6: served by 1, on cpu" in inkqueue("doctor", "--state-dir", str(tmp_path))


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with started(tmp_path, free_port()) as up:
        up.wait_for("?wait=30'")
        killed = up.worker_pid()
        os.kill(killed, signal.SIGKILL)
        up.wait_for("worker was ended by SIGKILL; it starts again in 1 s")
        wait_until(lambda: up.text.count("worker ready") == 2)
        assert up.worker_pid() != killed
