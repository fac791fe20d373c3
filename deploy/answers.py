"""`answers.py PORT PATH`: exit status 0 when this machine answers a GET with 200; starts fast, for health checks."""

import socket
import sys

_TIMEOUT_S = 4.0


def _answers(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                return answer.readline().split()[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not _answers(int(sys.argv[1]), sys.argv[2]))
