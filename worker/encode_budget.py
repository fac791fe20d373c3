"""How much encoding may be put between the steps of a line that somebody waits for."""

from __future__ import annotations


class EncodeBudget:
    """As long as a group took to encode, so long steps are made before the next one.

    On a CPU, encoding a line takes as long as twenty steps: were a bulk line encoded between any two steps of an
    interactive one, that would take twenty times as long as it needs. With this it takes twice as long at most, mostly
    not even that, since it has ended before the next group. Where encoding is cheap, as on a GPU, this hardly ever
    keeps a line waiting.
    """

    def __init__(self) -> None:
        self._group_s = 0.0
        self._stepped_s = 0.0

    @property
    def allows_group(self) -> bool:
        """Whether steps were made for long enough since the last group."""
        return self._stepped_s >= self._group_s

    def count_group(self, encode_s: float) -> None:
        """A group of lines that nobody waits for was encoded, in so many seconds."""
        self._group_s, self._stepped_s = encode_s, 0.0

    def count_step(self, step_s: float) -> None:
        """A step was made, in so many seconds."""
        self._stepped_s += step_s
