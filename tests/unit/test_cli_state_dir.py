from __future__ import annotations

import fcntl
import io
import json
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from cli.errors import CannotStart
from cli.log_lines import LogLines
from cli.state_dir import StateDir


def test_a_second_holder_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with (
        StateDir(tmp_path).held("http://127.0.0.1:8080", LogLines()),
        pytest.raises(CannotStart, match=rf"process {os.getpid()}, since 20.*, at http://127.0.0.1:8080\. Stop it"),
        StateDir(tmp_path).held("http://127.0.0.1:8081", LogLines()),
    ):
        pass


def test_what_a_killed_holder_left_running_is_waited_for(tmp_path: Path) -> None:
    # A process that holds the lock open, as a tether does, while the holder that is named in it is no more.
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / "lock").write_text(json.dumps({"pid": dead.pid, "since": "2026-01-01", "address": "http://a:1"}))
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tether = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()])
    said = io.StringIO()
    ending = threading.Timer(0.2, tether.kill)
    ending.start()
    with StateDir(tmp_path).held("http://b:2", LogLines(said)):
        assert "processes of an earlier inkqueue are still ending" in said.getvalue()
    tether.wait()
    ending.join()


def test_the_folder_is_free_again_after_its_holder(tmp_path: Path) -> None:
    for port in (8080, 8081):
        with StateDir(tmp_path).held(f"http://127.0.0.1:{port}", LogLines()):
            assert json.loads((tmp_path / "lock").read_text())["address"].endswith(str(port))


def test_a_longer_entry_of_an_earlier_holder_leaves_no_rest(tmp_path: Path) -> None:
    with StateDir(tmp_path).held("http://a-host-with-a-rather-long-name:8080", LogLines()):
        pass
    with StateDir(tmp_path).held("http://b:1", LogLines()):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_the_folder_and_the_key_are_for_their_user_only(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "new" / "state")
    state.write_key("ink_abc")
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(state.key_file.stat().st_mode) == 0o600
    assert state.key_file.read_text() == "ink_abc\n"


def test_a_key_that_was_never_written_or_deleted_is_none(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.read_key() is None
    state.write_key("ink_abc")
    assert state.read_key() == "ink_abc"
    state.key_file.unlink()
    assert state.read_key() is None


def test_the_sockets_of_a_killed_run_are_removed_at_the_next(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    left = state.sockets()
    folder = left.__enter__()  # and never left, as when it is killed
    with state.sockets() as fresh:
        assert not folder.exists()
        assert (tmp_path / "run").resolve() == fresh
    assert not fresh.exists()


def test_what_is_no_folder_for_sockets_is_never_removed(tmp_path: Path) -> None:
    (precious := tmp_path / "precious").mkdir()
    (tmp_path / "run").symlink_to(precious)
    with StateDir(tmp_path).sockets():
        assert precious.exists()


def test_a_path_that_cannot_be_a_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"The state folder .* cannot be made: Not a directory"):
        StateDir(tmp_path / "file" / "state")


def test_the_secret_key_is_made_once_and_is_for_its_user_only(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    key = state.secret_key()
    assert len(key) >= 32
    assert StateDir(tmp_path / "state").secret_key() == key
    assert (tmp_path / "state" / "secret_key").stat().st_mode & 0o777 == 0o600
