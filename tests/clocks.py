"""Clocks that tests set."""

from __future__ import annotations


class Clock:
    """A clock that goes forward when it is told to, in seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
