"""One attempt of a webhook: signed, sent to an address that was checked, and bounded in time and in what is read."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore
from ssrfguard import SSRFGuardError
from ssrfguard.httpx import SafeBackend

from core.delivery_claims import AttemptResult, ClaimedDelivery, content
from core.errors import Unavailable
from core.settings import settings
from core.signing import signature_headers
from core.tracing import traceparent
from core.webhook_guard import webhook_policy

#: What is read of an answer, for the log.
_ANSWER_BYTES = 1024
_USER_AGENT = "inkqueue-webhooks/1"
#: Connections that are kept open to receivers between two requests.
_IDLE_CONNECTIONS = 32
_IDLE_S = 10.0


class WebhookSender:
    """Sends webhooks; any number of threads may use it at once."""

    def __init__(self) -> None:
        self._deadline = _Deadline()
        # httpcore itself and not httpx: it follows no redirect, reads no proxy from the environment and adds nothing to
        # the bytes that were signed.
        self._pool = httpcore.ConnectionPool(
            network_backend=_PunctualBackend(self._deadline),
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
        )

    def attempt(self, delivery: ClaimedDelivery) -> AttemptResult:
        """Make one attempt; whatever goes wrong with it is its result."""
        began = time.monotonic()
        self._deadline.set(began + settings().webhook_timeout_s)
        try:
            return self._sent(delivery, began)
        except Unavailable as exc:
            error = exc.message
        except SSRFGuardError as exc:
            error = f"this address is not allowed: {exc}"
        except (httpcore.TimeoutException, TimeoutError):
            error = f"no answer within {settings().webhook_timeout_s:g} s"
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError, ValueError) as exc:
            error = f"the request failed: {exc or type(exc).__name__}"
        return AttemptResult(latency_ms=_ms_since(began), error=error)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _sent(self, delivery: ClaimedDelivery, began: float) -> AttemptResult:
        # The whole address; where its name leads is checked when the connection is made, and the checked address used.
        webhook_policy().check_url(delivery.url)
        body, secrets = content(delivery)
        signed = signature_headers(secrets, event_id=delivery.event_id, sent_at=datetime.now(UTC), body=body)
        headers = [("Content-Type", "application/json"), ("User-Agent", _USER_AGENT), *signed.items()]
        if here := traceparent():
            headers.append(("traceparent", here))
        with self._pool.stream("POST", delivery.url, headers=headers, content=body) as answer:
            beginning = _beginning(answer)
            retry_after = _header(answer, b"retry-after")
            return AttemptResult(
                latency_ms=_ms_since(began),
                status_code=answer.status,
                response=beginning,
                error=_judged(answer.status, _header(answer, b"location")),
                retry_after_s=_seconds(retry_after) if retry_after else 0,
            )


class _Deadline(threading.local):
    """When the attempt of the present thread must be over, on the monotonic clock."""

    at = float("inf")

    def set(self, at: float) -> None:
        self.at = at

    def left_s(self) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the time for this attempt is over")
        return left


class _PunctualBackend(SafeBackend):
    """Connects only to addresses that were checked, and lets no receiver take more than the attempt's whole time."""

    def __init__(self, deadline: _Deadline) -> None:
        super().__init__(policy=webhook_policy())
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        del timeout
        stream = super().connect_tcp(host, port, self._deadline.left_s(), local_address, socket_options)
        return _PunctualStream(stream, self._deadline)


class _PunctualStream(httpcore.NetworkStream):
    """A connection whose every read and write has the time that is left of the attempt.

    httpcore's own timeouts begin anew with each read: a receiver that sends a byte now and then would never time out.
    """

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, self._deadline.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._stream.write(buffer, self._deadline.left_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        encrypted = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left_s())
        return _PunctualStream(encrypted, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _beginning(answer: httpcore.Response) -> str:
    read = b""
    for part in answer.iter_stream():
        read += part
        if len(read) >= _ANSWER_BYTES:
            break  # the rest is never read: leaving the block closes the connection
    # Postgres stores every character but NUL.
    return read[:_ANSWER_BYTES].decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _judged(status: int, location: str | None) -> str | None:
    """Why this is no delivery; None when it is one: only 2xx is."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"the receiver redirects ({status}) to {location or 'nowhere'}; redirects are not followed"
    return f"the receiver answered {status}"


def _header(answer: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in answer.headers if key.lower() == name), None)


def _seconds(retry_after: str) -> float:
    """What `Retry-After` asks for: seconds, or a date; 0 if it cannot be understood."""
    if retry_after.strip().isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
