"""Request bodies in hand: so many bytes of them in all, and so many of one account, since all are held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache

from flask import Flask, Request, g

from api.places import Places, Room
from core.accounts import Caller
from core.errors import RateLimited
from core.settings import settings

#: Smaller ones are not counted: the threads bound how many there can be.
_SMALL_BYTES = 2**20
_RETRY_AFTER_S = 5


class BodyPlaces:
    """Room for the bodies of a process.

    Args:
        in_all_bytes: Of all accounts together; one may have half of it, and in any case a whole request.
        request_bytes: The largest body that is read.
    """

    def __init__(self, *, in_all_bytes: int, request_bytes: int) -> None:
        room = Room(of_account=max(in_all_bytes / 2, request_bytes), in_all=max(in_all_bytes, request_bytes))
        self._places = Places(lambda: room)
        self._request_bytes = request_bytes

    @contextmanager
    def place(self, account_id: str, size_bytes: int | None) -> Iterator[None]:
        """Hold room for a body while the block lasts.

        Args:
            account_id: Whose.
            size_bytes: As it was announced; None: it was not, and may be as large as any.

        Raises:
            RateLimited: There is none.
        """
        taken = self._request_bytes if size_bytes is None else size_bytes
        # What is too large is refused before it is read.
        if taken <= _SMALL_BYTES or taken > self._request_bytes:
            yield
            return
        with self._places.taken(account_id, taken) as admitted:
            if not admitted:
                raise RateLimited(
                    "too many large requests are in hand; send this again soon, or less at once",
                    retry_after_s=_RETRY_AFTER_S,
                )
            yield


@lru_cache(maxsize=1)
def body_places() -> BodyPlaces:
    """The room of this process."""
    return BodyPlaces(in_all_bytes=settings().max_bodies_bytes, request_bytes=settings().max_request_bytes)


def hold_body(caller: Caller, request: Request) -> None:
    """Hold room for the body of the present request, before it is read, until the request has been answered.

    Raises:
        RateLimited: There is none.
    """
    is_chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    size_bytes = None if is_chunked else request.content_length or 0
    g.body_place = ExitStack()
    g.body_place.enter_context(body_places().place(caller.account_id, size_bytes))


def register_bodies(app: Flask) -> None:
    """Let go of each request's body when it was answered."""
    app.teardown_request(_let_go)


def _let_go(error: BaseException | None) -> None:
    del error  # it was answered
    if held := g.pop("body_place", None):
        held.close()
