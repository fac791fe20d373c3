"""Places for requests that hold what the API has little of: so many in all, and so many of one account."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much may be taken at once."""

    of_account: float
    in_all: float


class Places:
    """Counts who holds how much now; any thread uses it.

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
            return self._are_free(account_id, 1)

    @contextmanager
    def taken(self, account_id: str, places: int = 1) -> Iterator[bool]:
        """Hold so many places while the block lasts, if there are as many for the account; whether there are."""
        with self._lock:
            admitted = self._are_free(account_id, places)
            self._taken[account_id] += places * admitted
        try:
            yield admitted
        finally:
            with self._lock:
                self._taken[account_id] -= places * admitted
                self._taken += Counter()  # forgets accounts that hold none

    def _are_free(self, account_id: str, places: int) -> bool:
        room = self._room()
        return self._taken[account_id] + places <= room.of_account and self._taken.total() + places <= room.in_all
