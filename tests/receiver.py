"""A receiver of webhooks: a real HTTP server in threads that keeps what it gets and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, object]:
        """Its content, if the signature is right."""
        content = Webhook(secret).verify(self.body, self.headers)
        assert isinstance(content, dict)
        return content


Answer = Callable[[BaseHTTPRequestHandler, int], None]


def status(*codes: int, headers: dict[str, str] | None = None, body: bytes = b"thanks") -> Answer:
    """Answer with these codes in turn, then always with the last."""

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(codes[min(number, len(codes) - 1)])
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def silence(until: threading.Event) -> Answer:
    """Say nothing until the event is set."""

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        until.wait(60)
        status(200)(handler, number)

    return answer


def dripping(until: threading.Event) -> Answer:
    """Send a byte of a header now and then."""

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        del number
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not until.wait(0.1):
            handler.wfile.write(b"a")
            handler.wfile.flush()

    return answer


def reset(handler: BaseHTTPRequestHandler, number: int) -> None:
    """Hang up without an answer."""
    del number
    handler.connection.close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Senders that hang up are what some tests are about."""


class Receiver:
    """One receiver at `url`."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Received] = []
        self.answer = answer
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.close_connection = True
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # its sender was killed on the way: as with any server, it has not come
                    return
                number = receiver._keep(Received(path=self.path, headers=dict(self.headers.items()), body=body))
                with suppress(OSError):  # the sender may hang up
                    receiver.answer(self, number)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def _keep(self, received: Received) -> int:
        with self._lock:
            self.requests.append(received)
            return len(self.requests) - 1

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(answer: Answer | None = None) -> Iterator[Receiver]:
    """A receiver while the block lasts; it answers 200 if nothing else is said."""
    receiver = Receiver(answer or status(200))
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
