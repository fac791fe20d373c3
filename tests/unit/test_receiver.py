"""The receiver of the webhook tests takes whole requests only, as any HTTP server does."""

from __future__ import annotations

import socket

from tests.receiver import receiving
from tests.waiting import wait_until


def test_a_request_whose_sender_dies_on_the_way_has_not_come() -> None:
    head = b"POST /hook HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n"
    with receiving() as receiver:
        for body in (b"cut", b"whole"):
            with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as sender:
                sender.sendall(head + body)
                sender.shutdown(socket.SHUT_WR)
                sender.recv(1)
        wait_until(lambda: receiver.requests)
        assert [request.body for request in receiver.requests] == [b"whole"]
