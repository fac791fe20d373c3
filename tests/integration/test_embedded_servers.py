from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from cli import embedded_postgres
from cli.embedded import running
from cli.embedded_postgres import EmbeddedPostgres, running_postgres
from cli.embedded_valkey import running_valkey
from cli.errors import CannotStart
from cli.tether import descendants

#: Starts both servers in the folder that it is given, says so, and waits to be killed.
_HOLDER = """
import signal, sys
from pathlib import Path
from cli.embedded_postgres import running_postgres
from cli.embedded_valkey import running_valkey
folder = Path(sys.argv[1])
with running_postgres(folder) as postgres, running_valkey(folder) as valkey:
    print(postgres, valkey, flush=True)
    signal.pause()
"""


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


def wait_until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def holder(folder: Path) -> Iterator[tuple[int, set[int]]]:
    """A process that runs both servers: its pid, and those of all below it."""
    command = [sys.executable, "-c", _HOLDER, str(folder)]
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as sockets,  # nobody else removes those of a killed holder
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": sockets}) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("postgresql")
            yield process.pid, descendants(process.pid)
        finally:
            process.kill()


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it went with one that was killed before it
            os.kill(pid, signal.SIGKILL)


def alive(pids: Iterable[int]) -> set[int]:
    return {pid for pid in pids if _state_of(pid) not in {None, "Z"}}


def _state_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def is_tether(pid: int) -> bool:
    return b"tether.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_second_start_keeps_what_was_committed(tmp_path: Path) -> None:
    with running_postgres(tmp_path) as url, connected(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'déjà vu' AS word")
    with running_postgres(tmp_path) as url, connected(url) as connection:
        assert connection.execute("SELECT word FROM kept").fetchone() == ("déjà vu",)


def test_a_state_folder_below_a_deep_private_path_is_good_enough(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    deep = private.joinpath(*["a-folder-name-of-fair-length"] * 6)
    with running_postgres(deep) as postgres, running_valkey(deep) as valkey:
        assert len(postgres.rpartition("=")[2] + "/.s.PGSQL.5432") <= 107
        assert len(valkey.removeprefix("redis+socket://")) <= 107


def test_the_sockets_are_for_their_user_only_and_go_with_the_server(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as url:
        folder = Path(url.removeprefix("redis+socket://")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


def test_both_end_with_their_parent_even_if_it_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as (pid, below):
        assert len(below) > 4  # two tethers, two servers, Postgres's own processes
        kill([pid])
        wait_until(lambda: alive(below) == set())


def test_both_end_with_their_tether_even_if_it_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as (pid, below):
        kill([pid for pid in below if is_tether(pid)])
        wait_until(lambda: alive({pid, *below}) == {pid})


def test_everything_killed_at_once_does_not_block_the_next_start(tmp_path: Path) -> None:
    with holder(tmp_path) as (pid, below):
        kill({pid, *below})
        wait_until(lambda: alive(below) == set())
    # The pid that the dead server wrote down is another process's by now: here, that of this test.
    stale = tmp_path / "postgres" / "postmaster.pid"
    _, *rest = stale.read_text().splitlines(keepends=True)
    stale.write_text(f"{os.getpid()}\n{''.join(rest)}")
    with running_postgres(tmp_path) as url, connected(url) as connection, running_valkey(tmp_path):
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_still_runs_is_never_robbed_of_its_pid(tmp_path: Path) -> None:
    with running_postgres(tmp_path):
        second = EmbeddedPostgres(data_folder=tmp_path / "postgres", socket_folder=tmp_path)
        with pytest.raises(CannotStart, match="has not ended yet"):
            second.prepare()


def test_an_interrupted_first_start_leaves_nothing_half_made(tmp_path: Path) -> None:
    half_made = tmp_path / "postgres.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with running_postgres(tmp_path) as url, connected(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
def test_root_without_user_namespaces_runs_postgres_as_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_postgres(tmp_path) as url, connected(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    monkeypatch.setattr(embedded_postgres, "_root_can_pose_as_a_user", lambda: False)
    with running_postgres(tmp_path) as url, connected(url) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (1,)
        assert (tmp_path / "postgres").stat().st_uid == 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
def test_data_of_nobody_stays_with_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as forbidden, running_postgres(tmp_path):
        forbidden.setattr(embedded_postgres, "_root_can_pose_as_a_user", lambda: False)
    with running_postgres(tmp_path) as url, connected(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    data.mkdir(mode=0o700)
    (data / "postgresql.conf").write_text("port = many\n")
    broken = EmbeddedPostgres(data_folder=data, socket_folder=tmp_path)
    with (
        pytest.raises(CannotStart, match=r"(?s)postgres ended.*invalid value for parameter"),
        running(broken, tmp_path / "log"),
    ):
        pass
