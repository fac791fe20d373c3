"""The bytes behind an image that is sent as text: an http(s) address, a data URL, base64."""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from urllib.parse import unquote_to_bytes

import httpx
from ssrfguard import Policy, SSRFGuardError, TooManyRedirectsError
from ssrfguard.httpx import Client

from core.errors import ImageTooLarge, MalformedRequest, UrlNotAllowed, UrlUnreachable
from core.settings import Settings

_MAX_REDIRECTS = 3
_CHUNK_BYTES = 64 * 1024
#: RFC 2397: `data:`, a media type with parameters, perhaps `;base64`, a comma, the data.
_DATA_URL = re.compile(r"data:(?P<type>[^,]*?)(?P<base64>;base64)?,(?P<data>.*)", re.DOTALL | re.IGNORECASE)


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
    data = unquote_to_bytes(parts["data"])
    return decode_base64(data.decode("latin-1")) if parts["base64"] else data


def fetch_image(url: str, settings: Settings) -> bytes:
    """Fetch an image from a public http(s) address, redirects included, within `url_timeout_s` and `max_image_bytes`.

    The address that was judged is the address that is connected to, at every redirect.

    Raises:
        UrlNotAllowed: It is no http(s) address, or names a network or port that may not be reached from here.
        UrlUnreachable: There was no answer in time, or none of 200.
        ImageTooLarge: The answer is larger than an image may be.
    """
    answer: Future[bytes] = Future()
    # A thread of its own: a name server that stalls the system's resolver cannot be interrupted, only left behind.
    threading.Thread(target=_fetch_into, args=(answer, url, settings), name="fetch", daemon=True).start()
    try:
        return answer.result(settings.url_timeout_s)
    except FutureTimeout as exc:
        raise UrlUnreachable(_unreachable(settings)) from exc


def _fetch_into(answer: Future[bytes], url: str, settings: Settings) -> None:
    try:
        answer.set_result(_fetch(url, settings))
    except BaseException as exc:
        answer.set_exception(exc)


def _fetch(url: str, settings: Settings) -> bytes:
    deadline = time.monotonic() + settings.url_timeout_s
    policy = Policy(
        allowed_networks=settings.url_allow_cidrs,
        allowed_ports=frozenset(settings.url_allow_ports),
        max_redirects=_MAX_REDIRECTS,
    )
    try:
        with (
            Client(policy=policy, trust_env=False, timeout=settings.url_timeout_s, follow_redirects=True) as client,
            client.stream("GET", url, headers={"Accept": "image/*", "Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise UrlUnreachable(f"the address answers with status {response.status_code}")
            return _body(response, deadline, settings)
    except TooManyRedirectsError as exc:
        raise UrlUnreachable(f"the address redirects more than {_MAX_REDIRECTS} times") from exc
    except SSRFGuardError as exc:
        raise UrlNotAllowed("the address is not a public http(s) address that may be fetched from here") from exc
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, UnicodeError) as exc:
        raise UrlUnreachable(_unreachable(settings)) from exc


def _body(response: httpx.Response, deadline: float, settings: Settings) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes(_CHUNK_BYTES):
        body += chunk
        if len(body) > settings.max_image_bytes:
            raise ImageTooLarge(f"the image is larger than {settings.max_image_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise UrlUnreachable(_unreachable(settings))
    return bytes(body)


def _unreachable(settings: Settings) -> str:
    # One message for refused, silent and unknown hosts, so that nobody learns from it what stands in this network.
    return f"the image could not be fetched within {settings.url_timeout_s:g} s"
