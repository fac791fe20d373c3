"""The state folder of `inkqueue up`: who holds it, what lies where, and the first key."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cli.embedded import SOCKET_FOLDER_PREFIX, make_socket_folder
from cli.embedded_postgres import EmbeddedPostgres
from cli.embedded_valkey import EmbeddedValkey
from cli.errors import CannotStart
from cli.log_lines import LogLines
from cli.secret_files import write_private

#: Below the folder that the user is in.
DEFAULT_STATE_DIR = Path(".inkqueue")
#: How long the processes of a killed `inkqueue up` may take to end before the next one gives up, seconds.
_LEFTOVERS_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who runs on a state folder."""

    pid: int
    since: str
    address: str

    @property
    def lives(self) -> bool:
        """Whether the process is there; the lock may outlast it, in the hands of its tethers."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def running_service(state_dir: Path) -> dict[str, str]:
    """The settings of the `inkqueue up` that runs on this folder with its own servers; none if none does."""
    sockets = (state_dir / "run").resolve()
    if not (sockets / ".s.PGSQL.5432").exists():
        return {}
    state = StateDir(state_dir)
    return {
        "DATABASE_URL": EmbeddedPostgres(data_folder=state.postgres, socket_folder=sockets).url,
        "REDIS_URL": EmbeddedValkey(data_folder=state.valkey, socket_folder=sockets).url,
        "INKQUEUE_STORAGE_URL": state.images.as_uri(),
        "INKQUEUE_SECRET_KEY": state.secret_key(),
    }


class StateDir:
    """One state folder, for its user only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise CannotStart(f"The state folder {path} cannot be made: {exc.strerror}.") from exc

    @property
    def postgres(self) -> Path:
        """Data of the embedded Postgres, absolute."""
        return self.path.resolve() / "postgres"

    @property
    def valkey(self) -> Path:
        """Data of the embedded Valkey, absolute."""
        return self.path.resolve() / "valkey"

    @property
    def images(self) -> Path:
        """The images at rest, absolute."""
        return self.path.resolve() / "images"

    @property
    def metrics(self) -> Path:
        """Where the processes of one run keep their counts, absolute."""
        return self.path.resolve() / "metrics"

    @property
    def key_file(self) -> Path:
        """The first API key, as the user may type the path."""
        return self.path / "api_key"

    @contextmanager
    def held(self, address: str, log: LogLines) -> Iterator[int]:
        """Hold the folder; the open lock file, which may be lent to processes that must end before the next holder.

        Args:
            address: Where this holder serves, for others to read.
            log: Told when processes of a killed holder have to be waited for.

        Raises:
            CannotStart: Another `inkqueue up` holds it; the message says which.
        """
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise CannotStart(f"The state folder {self.path} cannot be written: {exc.strerror}.") from exc
        try:
            self._acquire(lock, log)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            holder = json.dumps({"pid": os.getpid(), "since": since, "address": address})
            os.ftruncate(lock, 0)
            os.pwrite(lock, holder.encode(), 0)
            yield lock
        finally:
            os.close(lock)

    def read_key(self) -> str | None:
        """The first key, if its file is there."""
        try:
            return self.key_file.read_text().strip() or None
        except FileNotFoundError:
            return None

    def write_key(self, key: str) -> None:
        """Write the first key, readable for this user only from its first moment."""
        write_private(self.key_file, key)

    def secret_key(self) -> str:
        """The key that the secrets in this folder's database are encrypted under; made at the first time."""
        path = self.path / "secret_key"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text().strip()

    @contextmanager
    def sockets(self) -> Iterator[Path]:
        """A fresh folder for sockets; `<state-dir>/run` points to it, and one that a killed run left is removed."""
        link = self.path / "run"
        if link.is_symlink():
            if link.readlink().name.startswith(SOCKET_FOLDER_PREFIX):
                shutil.rmtree(link.readlink(), ignore_errors=True)
            link.unlink()
        folder = make_socket_folder()
        try:
            link.symlink_to(folder)
            yield folder
        finally:
            link.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def _acquire(self, lock: int, log: LogLines) -> None:
        deadline: float | None = None
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                holder = _holder(lock)
            if holder is not None and holder.lives:
                raise CannotStart(
                    f"{self.path} is in use by another inkqueue: process {holder.pid}, since {holder.since}, "
                    f"at {holder.address}. Stop it first, or choose another --state-dir."
                )
            if deadline is None:
                log.say("processes of an earlier inkqueue are still ending; waiting for them")
                deadline = time.monotonic() + _LEFTOVERS_S
            if time.monotonic() > deadline:
                raise CannotStart(f"Processes of an earlier inkqueue still hold {self.path} and do not end.")
            time.sleep(0.05)


def _holder(lock: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(lock, 4096, 0)))
    except (ValueError, TypeError):
        return None  # it was just made, or is being written
