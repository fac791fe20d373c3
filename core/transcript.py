"""What was read: words, lines and flags, and how a job's text is put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Flag(StrEnum):
    """A reason to look at a line again."""

    #: No ink: no model was called and nothing is charged.
    BLANK = "blank"
    #: The confidence is below the model's threshold.
    LOW_CONFIDENCE = "low_confidence"
    #: The same words come again and again.
    REPETITION = "repetition"
    #: The token limit was reached before the line ended.
    TRUNCATED = "truncated"
    #: The picture holds several lines, but was read as one.
    LOOKS_LIKE_PAGE = "looks_like_page"
    #: Too wide for the model: split with overlap and merged.
    LONG_LINE = "long_line"


@dataclass(frozen=True, kw_only=True)
class BoundingBox:
    """A rectangle in pixels of the upright image, origin top left, the maxima outside it."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int

    def __post_init__(self) -> None:
        if not (0 <= self.xmin < self.xmax and 0 <= self.ymin < self.ymax):
            raise ValueError(f"not a box: {self}")


@dataclass(frozen=True, kw_only=True)
class Word:
    """A run of characters between spaces."""

    text: str
    #: In [0, 1]; None when unknown.
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """A token that could have stood in the place of another, and the natural logarithm of its probability."""

    text: str
    logprob: float


@dataclass(frozen=True, kw_only=True)
class Token:
    """What the model wrote at once: a word, a part of one, or one character."""

    #: What it adds to the text of its line, which the tokens make together; empty for half a character.
    text: str
    #: Natural logarithm of its probability.
    logprob: float
    #: The likeliest tokens in its place, best first, as many as were asked for.
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of an image as it was read."""

    #: Position in reading order, from 0.
    index: int
    text: str
    #: In [0, 1]; None when unknown.
    confidence: float | None
    bbox: BoundingBox
    flags: tuple[Flag, ...]
    words: tuple[Word, ...]
    #: Tokens that the model wrote, the end token included; None when unknown.
    token_count: int | None = None
    #: The tokens, without the end token; None where nobody asked.
    pieces: tuple[Token, ...] | None = None


def joined_text(lines: Iterable[Line]) -> str:
    """The lines' texts in reading order, one a row."""
    return "\n".join(line.text for line in lines)


def rows_of(image_texts: Sequence[str | None]) -> str:
    """The texts of images one a row, whatever they hold: row n belongs to image n."""
    return "\n".join(" ".join((text or "").split("\n")) for text in image_texts)


def whole_text(image_texts: Sequence[str | None]) -> str:
    """The texts of a job's images in order, each on its own rows; an image without text leaves none."""
    return "\n".join(text for text in image_texts if text)
