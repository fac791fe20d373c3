"""Places for requests that hold a thread of the API for long: so many in all, and so many of one account."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many may be taken at once."""

    of_account: float
    in_all: float


class Places:
    """Counts who holds a place now; any thread uses it.

    Args:
        room: Asked each time.
    """

    def __init__(self, room: Callable[[], Room]) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def are_free(self, account_id: str) -> bool:
        """Whether the account would get one at this moment."""
        with self._lock:
            return self._are_free(account_id)

    @contextmanager
    def taken(self, account_id: str) -> Iterator[bool]:
        """Hold a place while the block lasts, if there is one for the account; whether there is."""
        with self._lock:
            admitted = self._are_free(account_id)
            self._taken[account_id] += admitted
        try:
            yield admitted
        finally:
            with self._lock:
                self._taken[account_id] -= admitted
                self._taken += Counter()  # forgets accounts that hold none

    def _are_free(self, account_id: str) -> bool:
        room = self._room()
        return self._taken[account_id] < room.of_account and self._taken.total() < room.in_all
