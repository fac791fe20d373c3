"""A text line with its transcription, and how lines are held back for validation."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_SIBLING_SUFFIX = re.compile(r"_[0-9]$")


@dataclass(frozen=True, kw_only=True)
class LineSample:
    """One text line to learn from."""

    #: The image file; a whole page when `polygon` is set.
    image: Path
    #: The transcription, NFC, white space folded.
    text: str
    #: The page or form from which the line comes; lines of one page are never split over train and validation.
    page: str
    #: The corpus, as the figures name it.
    source: str
    #: What kind of line it is (handwritten, typewritten, ...), as the corpus says.
    kind: str = ""
    #: The line's outline in pixels of the page, or None when the file is the line.
    polygon: tuple[tuple[int, int], ...] | None = None


class Hand(NamedTuple):
    """What tells one hand from another: lines that share it are taken for one hand's."""

    source: str
    kind: str
    form: str


def normalize_text(text: str) -> str:
    """Bring a transcription to NFC with single spaces and none at its ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def form_of(sample: LineSample) -> str:
    """Name the form a line was written on: sibling pages (`_1`, `_2`) of one form share it."""
    return f"{sample.source}/{_SIBLING_SUFFIX.sub('', sample.page)}"


def hand_of(sample: LineSample) -> Hand:
    """Name the hand that wrote a line, as far as the corpus tells."""
    return Hand(source=sample.source, kind=sample.kind, form=form_of(sample))


def split_by_form(
    samples: Iterable[LineSample], *, share: float, seed: int
) -> tuple[list[LineSample], list[LineSample]]:
    """Hold back whole forms for validation.

    Args:
        samples: Lines of any number of corpora.
        share: Share of forms that is held back, in [0, 1].
        seed: Another seed holds other forms back; adding lines of new forms moves no old one.

    Returns:
        Lines to train on and lines to validate on, in the order given.
    """
    train: list[LineSample] = []
    held_back: list[LineSample] = []
    for sample in samples:
        digest = hashlib.blake2b(f"{seed}:{form_of(sample)}".encode(), digest_size=8).digest()
        chosen = int.from_bytes(digest, "big") < share * 2**64
        (held_back if chosen else train).append(sample)
    return train, held_back
