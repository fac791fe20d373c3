"""A load generator that costs little: requests made beforehand, over connections that stay open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

_BOUNDARY = "inkqueue-benchmark"


def job_request(key: str, files: Sequence[Path], *, model: str, wait_s: int = 0) -> bytes:
    """A whole request that submits a job of these line images, and with `wait_s` waits for its end."""
    fields = {"model": model, "mode": "line"}
    parts = [_part(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [_part(f'name="image"; filename="{file.name}"', file.read_bytes()) for file in files]
    body = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
    lines = [
        "POST /v1/jobs HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}",
        f"Content-Length: {len(body)}",
        *([f"Prefer: wait={wait_s}"] if wait_s else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def send_all(port: int, requests: Sequence[bytes], *, times: int, connections: int) -> None:
    """Send these requests in turns, so many in all, over so many connections at once, each after its last answer.

    Raises:
        RefusedError: An answer is no success.
    """
    asyncio.run(_send_all(port, requests, times, connections))


async def _send_all(port: int, requests: Sequence[bytes], times: int, connections: int) -> None:
    left = iter(range(times))

    async def send_on() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for number in left:
                writer.write(requests[number % len(requests)])
                await _read_answer(reader)
        finally:
            writer.close()
            await writer.wait_closed()

    await asyncio.gather(*(send_on() for _ in range(connections)))


class RefusedError(Exception):
    """A request was not taken; the message is the answer's."""


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.split(maxsplit=2)[1].startswith(b"2"):
        raise RefusedError(body.decode(errors="replace"))


def _part(disposition: str, content: bytes) -> bytes:
    return f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
