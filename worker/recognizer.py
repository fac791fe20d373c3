"""The seam between the batcher and a model that reads lines: the values that cross it, and one protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.transcript import Flag, Token, Word

#: One text line: uint8 RGB of shape (H, W, 3), origin top left; H and W differ between lines.
LinePixels = NDArray[np.uint8]


class ModelUnavailable(Exception):
    """The model cannot be loaded; the message says what is missing and what to do."""


class RecognizerOutOfMemory(Exception):
    """The device had no room for these lines; the same lines in smaller groups may fit."""


class DeviceLost(Exception):
    """The device answers no more, whatever it is asked; only another process can use it again."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Which model this is, to the byte, and where it runs."""

    #: The name that jobs ask for.
    name: str
    #: Commit of the hub repository, version of the package, or None for a folder without either.
    revision: str | None
    #: Lower-case hex digest of the weights file.
    sha256: str
    #: `cpu`, `cuda:0`, ...
    device: str
    #: `float32`, `bfloat16`, `float16`, ...
    dtype: str
    parameters: int


@dataclass(frozen=True, kw_only=True)
class LineRequest:
    """A line to read, and what is asked of its reading."""

    pixels: LinePixels
    #: Follow so many beginnings of the text at once, 1 to `MAX_BEAMS`, each in a row of its own; 1 reads greedily.
    beams: int = 1
    #: Read at most so many tokens; None is the model's own limit, which a higher number does not raise.
    max_new_tokens: int | None = None
    #: Tell what each token adds to the text, and so many of the likeliest tokens in its place; None tells neither.
    top_logprobs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What was read in one line."""

    text: str
    #: exp(mean log-probability of the tokens, end of line included), in [0, 1]; None when unknown.
    confidence: float | None
    words: tuple[Word, ...]
    #: Token ids as generated, without the start token, with the end token where there is one.
    tokens: tuple[int, ...]
    #: Natural-log probability of each of `tokens`.
    token_logprobs: tuple[float, ...]
    flags: frozenset[Flag]
    #: Piece by piece what `text` is made of, without the end token; None where its request does not want it.
    pieces: tuple[Token, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class GroupSize:
    """How many lines are best encoded together, at least 1."""

    #: Fewer take as long as so many.
    least: int
    #: More would only keep those that are being read waiting.
    most: int


class AheadEncoder(Protocol):
    """Encodes lines of a recognizer before they are admitted, beside the steps; asked by the device's thread.

    Lines that are admitted go before all of these that are not under way. One that fails here is encoded once more
    when it is admitted.
    """

    @property
    def most(self) -> int:
        """How many lines are best encoded ahead, at least 1."""

    def want(self, requests: Sequence[LineRequest]) -> None:
        """Begin these lines where they are not begun, in this order, and drop all others; returns at once.

        Args:
            requests: The objects that `admit` is given later.
        """

    def keep(self, requests: Sequence[LineRequest]) -> None:
        """Begin none, and drop all but these lines, and of these what is not under way; returns at once."""

    def forget(self) -> None:
        """Drop all lines; returns when none is being encoded."""


class Recognizer(Protocol):
    """A model with a fixed number of rows, each of which reads one line, or one beam of a line, at a time.

    All methods are called by one thread, which owns the device. Rows are named by the caller's keys.
    """

    @property
    def card(self) -> ModelCard:
        """Which model this is and where it runs."""

    @property
    def rows(self) -> int:
        """The most rows that are used at once, at least 1. A line that is alone may have more beams than that."""

    @property
    def group_size(self) -> GroupSize:
        """How many lines are best encoded together."""

    @property
    def ahead(self) -> AheadEncoder | None:
        """What encodes lines before they are admitted; None where that gains nothing."""

    @property
    def max_aspect_ratio(self) -> float:
        """The width over height up to which a line is read well, at least 12; wider ones are better read in parts."""

    def admit(self, lines: Mapping[str, LineRequest]) -> None:
        """Encode lines together and give each its rows, under its key; at most as many as are free.

        Raises:
            RecognizerOutOfMemory: There was no room on the device; none of `lines` was given a row.
            DeviceLost: The device is broken.
            Exception: The lines could not be encoded; none of them was given a row.
        """

    def step(self) -> Mapping[str, Recognition]:
        """Advance every row by one token; return the lines that ended, whose rows are free again.

        Raises:
            RecognizerOutOfMemory: There was no room on the device; all rows are lost.
            DeviceLost: The device is broken.
            Exception: The step failed; all rows are lost.
        """

    def settled(self, keys: Collection[str]) -> Mapping[str, str]:
        """How the texts of these lines begin, whatever further steps read; unknown keys are left out.

        Raises:
            DeviceLost: The device is broken.
            Exception: They cannot be told; no row is lost.
        """

    def drop(self, keys: Collection[str]) -> None:
        """Free the rows of these lines without a result; unknown keys are ignored.

        Raises:
            DeviceLost: The device is broken.
            Exception: That failed; all rows are lost.
        """
