"""The image URLs of one submission, fetched side by side within one budget of time and bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

from api.image_urls import fetch_image
from core.errors import ImageTooLarge, InkqueueError, UrlUnreachable
from core.settings import settings

#: URLs of one submission that are fetched at once.
_FETCHES = 8
#: Longest time for all URLs of one submission, seconds; each has `url_timeout_s` of its own.
_BUDGET_S = 60.0


def fetch_images(urls: Mapping[str, str]) -> dict[str, bytes]:
    """Fetch images by name; the first that fails fails all, and its error has the name as `param`.

    Raises:
        InkqueueError: As `fetch_image`; also `ImageTooLarge` when together they are larger than a request may be, and
            `UrlUnreachable` when together they take more than a minute.
    """
    deadline = time.monotonic() + _BUDGET_S
    fetched: dict[str, bytes] = {}
    pool = ThreadPoolExecutor(_FETCHES)
    fetch = _Fetch(room_bytes=settings().max_request_bytes)
    futures = {name: pool.submit(fetch, url) for name, url in urls.items()}
    try:
        for name, future in futures.items():
            try:
                fetched[name] = future.result(max(0.0, deadline - time.monotonic()))
            except FutureTimeout as exc:
                raise UrlUnreachable(f"the images could not be fetched within {_BUDGET_S:g} s", param=name) from exc
            except InkqueueError as error:
                error.param = name
                raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return fetched


class _Fetch:
    """Fetches images that are together not larger than a request may be.

    Counted as they come: while one of them drips, the others must not fill the memory behind it.
    """

    def __init__(self, *, room_bytes: int) -> None:
        self._lock = threading.Lock()
        self._room_bytes = room_bytes

    def __call__(self, url: str) -> bytes:
        data = fetch_image(url, settings())
        with self._lock:
            self._room_bytes -= len(data)
            if self._room_bytes < 0:
                raise ImageTooLarge("the images are together larger than a request may be")
        return data
