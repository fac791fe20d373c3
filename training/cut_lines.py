"""Lines of which it is known where their words and letters stand, and how pieces of them become one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from training.line_images import GreyLine, on_paper, paper_of
from training.samples import Hand

#: Lines that follow each other and are taken for one hand's, where hands are not known; and at most, since for some
#: corpora a whole folder is a page.
_NEIGHBOURS, _MOST_LINES = 16, 64
#: How much darker than the paper ink is at least, in grey levels, where its rows are looked for.
_INK_LEVELS = 20.0
#: How many times larger or smaller a piece becomes at most, beside the change of height, to suit the other writing.
_MOST_RESIZED = 1.4


@dataclass(frozen=True, kw_only=True)
class WholeLine:
    """A line, what stands there, and whose hand wrote it."""

    #: uint8 grey of shape (H, W).
    pixels: GreyLine
    text: str
    hand: Hand


@dataclass(frozen=True, kw_only=True)
class CutWord:
    """A word with the places between its letters."""

    text: str
    #: Edges of the letters in pixels of the line, one more than there are letters.
    edges_px: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CutLine:
    """A line with the places of its words."""

    #: uint8 grey of shape (H, W).
    pixels: GreyLine
    words: tuple[CutWord, ...]
    hand: Hand

    @cached_property
    def ink_rows(self) -> tuple[float, float]:
        """Middle and standard deviation of the rows in which ink stands, in pixels; the line's where there is none."""
        height_px = len(self.pixels)
        ink = np.clip(self.paper - _INK_LEVELS - self.pixels, 0.0, None).sum(axis=1)
        if not ink.any():
            return height_px / 2, height_px / 4
        rows = np.arange(height_px)
        middle = float(np.average(rows, weights=ink))
        return middle, float(np.sqrt(np.average((rows - middle) ** 2, weights=ink)))

    @cached_property
    def paper(self) -> int:
        """Grey of the paper."""
        return paper_of(self.pixels)


@dataclass(frozen=True, kw_only=True)
class LinePiece:
    """A part of a line, from its top to its bottom."""

    line: CutLine
    left_px: int
    right_px: int

    @property
    def pixels(self) -> GreyLine:
        """uint8 grey of shape (H, W)."""
        return self.line.pixels[:, self.left_px : self.right_px]


def by_hand(lines: Sequence[CutLine]) -> list[list[CutLine]]:
    """Part lines by their hands; where one has a single line, neighbours of its kind are taken for one hand's."""
    known: dict[Hand, list[CutLine]] = {}
    for line in lines:
        known.setdefault(line.hand, []).append(line)
    neighbours: dict[tuple[str, str], list[CutLine]] = {}
    parted: list[list[CutLine]] = []
    for hand, own in known.items():
        # A corpus that is given twice has each line twice.
        if len({line.words for line in own}) == 1:
            neighbours.setdefault((hand.source, hand.kind), []).extend(own)
        else:
            parted += _runs(own, _MOST_LINES)
    return parted + [run for alone in neighbours.values() for run in _runs(alone, _NEIGHBOURS)]


def _runs(lines: Sequence[CutLine], most: int) -> list[list[CutLine]]:
    return [list(lines[first : first + most]) for first in range(0, len(lines), most)]


def has_ink(piece: LinePiece) -> bool:
    """Whether anything is written in a piece."""
    return bool(piece.pixels.min() < piece.line.paper - _INK_LEVELS)


def joined(pieces: Sequence[LinePiece]) -> GreyLine:
    """Join pieces to uint8 of shape (H, W), as large and as high and on the same paper as in the line of the first."""
    return np.concatenate([_matched(piece, pieces[0].line) for piece in pieces], axis=1)


def _matched(piece: LinePiece, model: CutLine) -> GreyLine:
    line, height_px = piece.line, len(model.pixels)
    if line is model:
        return piece.pixels
    (middle, deviation), (model_middle, model_deviation) = line.ink_rows, model.ink_rows
    scale = height_px / len(line.pixels)
    scale *= float(np.clip(model_deviation / max(1.0, deviation * scale), 1 / _MOST_RESIZED, _MOST_RESIZED))
    matrix = np.array([[scale, 0.0, 0.0], [0.0, scale, model_middle - middle * scale]])
    size_px = (max(1, round(piece.pixels.shape[1] * scale)), height_px)
    moved = cv2.warpAffine(piece.pixels, matrix, size_px, borderMode=cv2.BORDER_CONSTANT, borderValue=line.paper)
    return on_paper(np.asarray(moved, dtype=np.uint8), model.paper, was=line.paper)
