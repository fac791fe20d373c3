"""The bytes behind an image that is sent as text: an http(s) address, a data URL, base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import httpx
from ssrfguard import Policy, Resolver, SSRFGuardError, TooManyRedirectsError
from ssrfguard.httpx import AsyncClient

from core.errors import ImageTooLarge, MalformedRequest, UrlNotAllowed, UrlUnreachable
from core.settings import Settings

#: One of `socket.getaddrinfo`.
_Answer = tuple[int, int, int, str, tuple[Any, ...]]

_MAX_REDIRECTS = 3
#: RFC 2397: `data:`, a media type with parameters, perhaps `;base64`, a comma, the data.
_DATA_URL = re.compile(r"data:(?P<type>[^,]*?)(?P<base64>;base64)?,(?P<data>.*)", re.DOTALL | re.IGNORECASE)
#: RFC 3986; a sign without two digits stands for itself.
_PERCENT = re.compile("%([0-9a-fA-F]{2})")


def decode_base64(text: str) -> bytes:
    """Bytes from base64 (RFC 4648, standard alphabet); white space and missing padding are tolerated.

    Raises:
        MalformedRequest: There are other characters, or the length cannot be.
    """
    compact = "".join(text.split())
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise MalformedRequest("this is not base64") from exc


def decode_data_url(url: str) -> bytes:
    """Bytes of a data URL, base64 or percent-encoded (RFC 2397); its media type is not believed.

    Raises:
        MalformedRequest: It is not a data URL, or its base64 is broken.
    """
    parts = _DATA_URL.fullmatch(url)
    if parts is None:
        raise MalformedRequest("this is not a data URL")
    # By way of a text of one character a byte: `unquote_to_bytes` holds 190 bytes for each of the URL's, at worst.
    data = _PERCENT.sub(lambda sign: chr(int(sign[1], 16)), parts["data"].encode().decode("latin-1"))
    return decode_base64(data) if parts["base64"] else data.encode("latin-1")


def fetch_image(url: str, settings: Settings) -> bytes:
    """Fetch an image from a public http(s) address within `url_timeout_s`, name look-up and redirects included.

    The address that was judged is the address that is connected to, at every redirect.

    Raises:
        UrlNotAllowed: It is no http(s) address, or names a network or port that may not be reached from here.
        UrlUnreachable: There was no answer in time, or none of 200.
        ImageTooLarge: The answer is larger than `max_image_bytes`.
    """
    policy = Policy(
        allowed_networks=settings.url_allow_cidrs,
        allowed_ports=frozenset(settings.url_allow_ports),
        max_redirects=_MAX_REDIRECTS,
    )
    try:
        policy.check_url(url)
        return asyncio.run(_fetch(url, policy, settings))
    except TooManyRedirectsError as exc:
        raise UrlUnreachable(f"the address redirects more than {_MAX_REDIRECTS} times") from exc
    except (SSRFGuardError, httpx.InvalidURL) as exc:
        raise UrlNotAllowed("the address is not a public http(s) address that may be fetched from here") from exc
    except (httpx.HTTPError, httpx.StreamError, OSError, UnicodeError) as exc:
        # One message for refused, silent and unknown hosts, so that nobody learns from it what stands in this network.
        raise UrlUnreachable(f"the image could not be fetched within {settings.url_timeout_s:g} s") from exc


async def _fetch(url: str, policy: Policy, settings: Settings) -> bytes:
    # Async, because a timeout of httpx is for each read only, and cancelling ends what drips a byte at a time.
    async with (
        asyncio.timeout(settings.url_timeout_s),
        AsyncClient(
            policy=policy,
            resolver=_resolver(time.monotonic() + settings.url_timeout_s),
            verify=_tls(),
            trust_env=False,
            timeout=settings.url_timeout_s,
            follow_redirects=True,
        ) as client,
        client.stream("GET", url, headers={"Accept": "image/*", "Accept-Encoding": "identity"}) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise UrlUnreachable(f"the address answers with status {response.status_code}")
        body = bytearray()
        # Raw, because a small compressed answer can unfold into more than memory holds.
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > settings.max_image_bytes:
                raise ImageTooLarge(f"the image is larger than {settings.max_image_bytes:,} bytes")
        return bytes(body)


def _resolver(deadline_s: float) -> Resolver:
    """The system's name look-up with an end: it cannot be interrupted, only left behind in a thread of its own."""

    def look_up(host: str, port: int, family: int, kind: int, protocol: int, flags: int) -> Iterable[_Answer]:
        answers: Future[Sequence[_Answer]] = Future()

        def ask() -> None:
            try:
                answers.set_result(socket.getaddrinfo(host, port, family, kind, protocol, flags))
            except Exception as exc:  # the one who waits raises it
                answers.set_exception(exc)

        threading.Thread(target=ask, name="name look-up", daemon=True).start()
        return answers.result(max(0, deadline_s - time.monotonic()))

    return look_up


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    # Made once: to read the certificates takes longer than to fetch a line.
    return httpx.create_ssl_context(trust_env=False)
