"""What the batcher tells of its work, as figures."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol


class AdmitReason(StrEnum):
    """Why a group of lines was given rows at that moment."""

    #: No row was in use: the first lines that came were started without waiting for more.
    IDLE = "idle"
    #: Rows were free while others were being read.
    JOINED = "joined"
    #: A line that must be alone.
    ALONE = "alone"


class BatchObserver(Protocol):
    """Is told what the device does, by the device's thread; must return at once."""

    def admitted(
        self, *, lines: int, jobs: int, reason: AdmitReason, encode_s: float, waits_s: Sequence[float]
    ) -> None:
        """Lines of so many distinct jobs were encoded together, after waiting so long (one time per line)."""

    def stepped(self, *, rows: int, jobs: int, step_s: float) -> None:
        """One step took `step_s` for so many rows with lines of so many distinct jobs."""

    def ran_out_of_memory(self, *, row_limit: int) -> None:
        """The device ran out of memory; from now on at most `row_limit` rows are used."""
