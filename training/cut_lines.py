"""Lines of which it is known where their words and letters stand, and how pieces of them become one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from training.line_images import GreyLine

#: How much darker than the paper ink is at least, in grey levels, where its rows are looked for.
_INK_LEVELS = 20.0
#: How many times larger or smaller a piece becomes at most, beside the change of height, to suit the other writing.
_MOST_RESIZED = 1.4


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
    def paper(self) -> float:
        """Grey of the paper."""
        return float(np.percentile(self.pixels, 80))


@dataclass(frozen=True, kw_only=True)
class LinePiece:
    """A part of a line, from its top to its bottom."""

    line: CutLine
    left_px: int
    right_px: int


def joined(pieces: Sequence[LinePiece]) -> GreyLine:
    """Join pieces to uint8 of shape (H, W), as large and as high and on the same paper as in the line of the first."""
    return np.concatenate([_matched(piece, pieces[0].line) for piece in pieces], axis=1)


def _matched(piece: LinePiece, model: CutLine) -> GreyLine:
    line, height_px = piece.line, len(model.pixels)
    pixels = line.pixels[:, piece.left_px : piece.right_px]
    if line is model:
        return pixels
    (middle, deviation), (model_middle, model_deviation) = line.ink_rows, model.ink_rows
    scale = height_px / len(line.pixels)
    scale *= float(np.clip(model_deviation / max(1.0, deviation * scale), 1 / _MOST_RESIZED, _MOST_RESIZED))
    matrix = np.array([[scale, 0.0, 0.0], [0.0, scale, model_middle - middle * scale]])
    size_px = (max(1, round(pixels.shape[1] * scale)), height_px)
    moved = cv2.warpAffine(pixels, matrix, size_px, borderMode=cv2.BORDER_CONSTANT, borderValue=line.paper)
    return np.asarray(np.clip(moved * (model.paper / max(1.0, line.paper)), 0, 255), dtype=np.uint8)
