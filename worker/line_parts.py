"""Lines that are too wide for a model: cut into parts that overlap, at gaps between words where there are any.

Of 57 pictures of two to four test lines side by side, 26 to 79 heights wide, `trocr-tiny` reads 27 % of the characters
wrong in parts, and 89 % squeezed; of single test lines of that source it reads 26 % wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.recognizer import LinePixels

#: How far a part may reach beyond its share of the line on either side, in heights of the line, and how far it does so
#: at least. Of our lines three characters are about as wide as the line is high.
_MOST_REACH = 2.0
_LEAST_REACH = 0.5
#: A gap between words is at least so wide, in heights of the line.
_GAP = 0.25
#: Lines that are wider than the limit by so little are left whole: of 56 test lines between 20 and 24 heights wide CER
#: was 0.278 whole and 0.285 in two parts, and two parts take twice the time.
_TOLERATED = 1.2
#: A picture that would need more parts is cut into so many, which are then wider than they should be: nobody writes
#: such lines, and one crazy picture must not take the model from everybody for minutes.
MOST_PARTS = 16
#: Rows of a picture that are looked at, at most about so many.
_ROWS = 64
#: A column holds ink if it changes by more than this share of what the fullest columns do.
_INK = 0.1


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some columns of a line, `right` outside them."""

    left: int
    right: int
    #: How much of its ink its left and its right neighbour see too, in [0, 1].
    shared_left: float
    shared_right: float

    def of(self, pixels: LinePixels) -> LinePixels:
        """Its pixels, a view on the line's."""
        return pixels[:, self.left : self.right]


def parts_of(pixels: LinePixels, max_aspect_ratio: float) -> Sequence[Part]:
    """Cut a line, where it is too wide, into parts of at most this width over height, from left to right.

    Neighbours have one to four heights in common, so that a word that one of them cuts through is whole in the other.

    Args:
        pixels: uint8 RGB of shape (H, W, 3).
        max_aspect_ratio: At least 12.
    """
    height, width = pixels.shape[:2]
    if width <= _TOLERATED * max_aspect_ratio * height:
        return [Part(left=0, right=width, shared_left=0.0, shared_right=0.0)]
    far, near = _MOST_REACH * height, _LEAST_REACH * height
    count = min(math.ceil(width / (max_aspect_ratio * height - 2 * far)), MOST_PARTS)
    middles = [width * share / count for share in range(1, count)]
    ink = _ink(pixels)
    sums = np.convolve(ink, np.ones(max(1, round(_GAP * height))), mode="same")
    lefts = [0, *(_least(sums, middle - far, middle - near) for middle in middles)]
    rights = [*(_least(sums, middle + near, middle + far) for middle in middles), width]
    inked = np.concatenate(([0], np.cumsum(ink > _INK * np.percentile(ink, 99))))
    return [
        Part(
            left=left,
            right=right,
            shared_left=_share(inked, left, max(left, left_end), left, right),
            shared_right=_share(inked, min(right_start, right), right, left, right),
        )
        for left, right, left_end, right_start in zip(lefts, rights, [0, *rights], [*lefts[1:], width], strict=False)
    ]


def _least(sums: NDArray[np.floating], first: float, last: float) -> int:
    """The column between two places around which there is the least ink."""
    start = math.ceil(first)
    return start + int(sums[start : math.floor(last) + 1].argmin())


def _ink(pixels: LinePixels) -> NDArray[np.floating]:
    """How much each column changes from row to row, beyond what paper, shadows and ruled lines do in all of them."""
    rows = pixels[:: max(1, pixels.shape[0] // _ROWS), :, 1].astype(np.float32)
    changes = np.abs(np.diff(rows, axis=0)).sum(axis=0)
    ink: NDArray[np.floating] = np.maximum(changes - np.percentile(changes, 10), 0)
    return ink


def _share(inked: NDArray[np.integer], first: int, last: int, left: int, right: int) -> float:
    """How much of the ink between `left` and `right` lies between `first` and `last`, by columns that hold any."""
    return float((inked[last] - inked[first]) / max(1, inked[right] - inked[left]))
