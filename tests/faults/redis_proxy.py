"""A TCP proxy before Redis: the network between the service and Redis, which can go silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from core.standby import wakes_of

_PIECE_BYTES = 2**16
_WAKES = wakes_of("").encode()


@dataclass(eq=False)
class _Connection:
    client: socket.socket
    server: socket.socket
    #: Cleared: nothing passes, and neither side is told.
    passing: threading.Event = field(default_factory=threading.Event)
    #: Whether the client waits for a ticket.
    consumes: bool = False
    #: Whether it is a worker that may be woken.
    hears_wakes: bool = False

    def pass_on(self, source: socket.socket, sink: socket.socket, *, alive: threading.Event) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                if source is self.client:
                    self.consumes = b"BRPOP" in piece
                    self.hears_wakes |= b"SUBSCRIBE" in piece and _WAKES in piece
                alive.wait()
                self.passing.wait()
                sink.sendall(piece)
        self.consumes = False
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class RedisProxy:
    """Passes every connection to `port` on to a Redis at `redis_port` of this machine, which need not be up."""

    def __init__(self, redis_port: int) -> None:
        self._redis_port = redis_port
        self._alive = threading.Event()
        self._alive.set()
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Let nothing pass while the block lasts, then all of it: what a broken network does to TCP."""
        self._alive.clear()
        try:
            yield
        finally:
            self._alive.set()

    def deafen_consumers(self) -> int:
        """Let nothing pass any more on the connections that now wait for tickets; how many those are.

        New connections work, so that all but a worker's consumer goes on: what celery#10302 leaves behind. Nor is the
        worker woken any more: it would go on without tickets.
        """
        consumers = [each for each in self._connections if each.consumes and each.passing.is_set()]
        if consumers:
            for deaf in (*consumers, *(each for each in self._connections if each.hears_wakes)):
                deaf.passing.clear()
        return len(consumers)

    def close(self) -> None:
        """Refuse new connections, and cut the others."""
        self._listener.close()
        for connection in self._connections:
            for end in (connection.client, connection.server):
                end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._redis_port))
                except OSError:
                    client.close()
                    continue
                connection = _Connection(client, server)
                connection.passing.set()
                self._connections.append(connection)
                for source, sink in ((client, server), (server, client)):
                    arguments = {"alive": self._alive}
                    threading.Thread(
                        target=connection.pass_on, args=(source, sink), kwargs=arguments, daemon=True
                    ).start()
