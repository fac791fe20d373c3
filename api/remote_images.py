"""The image URLs of one submission, fetched side by side within one budget of time and bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from functools import lru_cache

from api.image_urls import fetch_image
from api.places import Places, Room
from core.errors import ImageTooLarge, InkqueueError, RateLimited, UrlUnreachable
from core.settings import settings

#: URLs of one submission that are fetched at once.
_FETCHES = 8
#: Longest time for all URLs of one submission, seconds; each has `url_timeout_s` of its own.
_BUDGET_S = 60.0
#: The share of a process's threads that may fetch at once, for all accounts and for one.
_FETCHING_SHARE, _FETCHING_SHARE_OF_ACCOUNT = 1 / 8, 1 / 32
#: A clerk fetches for so many requests of one account's batch at once, and must have places for them.
FETCHING_CLERKS = 8
_RETRY_AFTER_S = 5


class FetchingPlaces:
    """Places for submissions that wait for the servers of others, each of which holds a thread of the API.

    Args:
        threads: Those of this process; the others stay free for requests that take no time, and for long polls.
    """

    def __init__(self, threads: int) -> None:
        room = Room(
            of_account=max(FETCHING_CLERKS, int(threads * _FETCHING_SHARE_OF_ACCOUNT)),
            in_all=max(2 * FETCHING_CLERKS, int(threads * _FETCHING_SHARE)),
        )
        self._places = Places(lambda: room)

    @contextmanager
    def place(self, account_id: str) -> Iterator[None]:
        """Hold a place while the block lasts.

        Raises:
            RateLimited: The account has as many as it may, or all are taken.
        """
        with self._places.taken(account_id) as admitted:
            if not admitted:
                raise RateLimited(
                    "too many requests wait for the servers of their images; send this again soon, or the images "
                    "themselves",
                    retry_after_s=_RETRY_AFTER_S,
                )
            yield


@lru_cache(maxsize=1)
def fetching_places() -> FetchingPlaces:
    """The places of this process."""
    return FetchingPlaces(settings().api_threads)


def fetch_images(urls: Mapping[str, str], *, account_id: str) -> dict[str, bytes]:
    """Fetch images by name; the first that fails fails all, and its error has the name as `param`.

    Args:
        urls: What to fetch.
        account_id: For whom.

    Raises:
        RateLimited: Too many requests of the account, or of all, fetch at this moment.
        InkqueueError: As `fetch_image`; also `ImageTooLarge` when together they are larger than a request may be, and
            `UrlUnreachable` when together they take more than a minute.
    """
    if not urls:
        return {}
    with fetching_places().place(account_id):
        return _fetched(urls)


def _fetched(urls: Mapping[str, str]) -> dict[str, bytes]:
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
