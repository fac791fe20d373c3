"""When a child that died is started again, and when it is given up: decided from the times alone, done elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Life:
    """One life of a child, in seconds of one monotonic clock."""

    began: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """Wait after a death, twice as long after each, until a life was long; give up when deaths come thick."""

    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    #: A life of this length starts the waits from the first again.
    long_life_s: float = 60.0
    #: This many deaths ...
    most_deaths: int = 5
    #: ... within this time are too many.
    window_s: float = 60.0

    def wait_after(self, lives: Sequence[Life]) -> float | None:
        """How long to wait before the next life, or None to give up.

        Args:
            lives: All lives so far, oldest first, at least one; the last one has just ended.
        """
        now = lives[-1].ended
        if sum(now - life.ended <= self.window_s for life in lives) >= self.most_deaths:
            return None
        short = 0
        for life in reversed(lives):
            if life.ended - life.began >= self.long_life_s:
                break
            short += 1
        return float(min(self.longest_wait_s, self.first_wait_s * 2 ** max(0, short - 1)))
