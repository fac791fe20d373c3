"""Two looks at a picture before a model reads it as a line: is there ink, and is it one row of it?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.recognizer import LinePixels

_Grey = NDArray[np.floating]

#: A stroke of a line 64 px high is 2 to 6 px wide; in a square of 8 px it and the paper meet.
_TILE_PX = 8
#: Levels of 255 that differ within one tile: below the first it is paper, above the second ink, whatever the noise.
_PAPER_LEVELS, _INK_LEVELS = 12.0, 30.0
#: Values of some 200,000 that leave no doubt of ink when they differ by so many levels from one 8 px above or below.
_PLAIN_VALUES, _PLAIN_LEVELS = 100, 90
#: Wider pictures, width over height, are no pages: each of three rows would be 24 times as wide as high.
_MAX_PAGE_ASPECT = 8
#: Strips of a picture that are looked at one by one, since the rows of a skewed page overlap over its whole width.
_STRIPS = 4
#: Rows that make a page, in all strips but one.
_PAGE_ROWS = 3
#: How far the ink between two rows must fall, as a share of the fullest row.
_ROW_DEPTH = 0.35


def is_blank(pixels: LinePixels) -> bool:
    """Whether a picture holds no ink: even or slightly noisy paper of any colour, lit evenly or not.

    In doubt it is not blank, since a blank line is answered with an empty text: of 6,055 real lines none is called
    blank, nor with a third of their contrast on noisy paper (sigma 4 levels). Of made-up blank papers (gradients up to
    120 levels, sigma up to 12, JPEG of quality 40 to 85) 92 % are. 0.04 ms for a usual line, 1 ms for a faint one.

    Args:
        pixels: uint8 RGB of shape (H, W, 3).
    """
    if _has_plain_ink(pixels):
        return False
    grey = _smooth(_reduced(pixels, max_rows=64, max_columns=2048))
    padded = np.pad(grey, [(0, -size % _TILE_PX) for size in grey.shape], mode="edge")
    tiles = padded.reshape(padded.shape[0] // _TILE_PX, _TILE_PX, padded.shape[1] // _TILE_PX, _TILE_PX)
    contrasts = tiles.max((1, 3)) - tiles.min((1, 3))
    # The evenest quarter of the tiles shows the paper; with noise alone, none varies more than twice as much.
    paper = float(np.percentile(contrasts, 25))
    ink = np.clip(2 * paper + 4, _PAPER_LEVELS, _INK_LEVELS)
    return int((contrasts > ink).sum()) < 2


def looks_like_page(pixels: LinePixels) -> bool:
    """Whether a picture holds several rows of text, three or more one below the other.

    Of 6,055 real single lines 5 are called a page; of pages made of the same lines, straight or skewed by 1.5 degrees,
    71 % of those with three rows, 88 % with four, 95 % with six, 98 % with ten, all with twenty. 0.1 ms for a line.

    Args:
        pixels: uint8 RGB of shape (H, W, 3).
    """
    if pixels.shape[1] > _MAX_PAGE_ASPECT * pixels.shape[0]:
        return False
    grey = _reduced(pixels, max_rows=256, max_columns=768)
    if min(grey.shape) < 2 * _STRIPS:
        return False
    # Strokes change along a row; shadows hardly, and ruled lines not at all.
    changes = np.abs(np.diff(grey, axis=1))
    counts = sorted(_text_rows(strip.mean(axis=1)) for strip in np.array_split(changes, _STRIPS, axis=1))
    return counts[1] >= _PAGE_ROWS


def _has_plain_ink(pixels: LinePixels) -> bool:
    """A first look that is enough for most lines, in a tenth of the time: whole rows, no copies."""
    sampled = pixels[:: max(1, len(pixels) // 64)]
    bands = sampled[: len(sampled) // _TILE_PX * _TILE_PX].reshape(-1, _TILE_PX, pixels.shape[1] * 3)
    return int(np.count_nonzero(bands.max(axis=1) - bands.min(axis=1) > _PLAIN_LEVELS)) > _PLAIN_VALUES


def _text_rows(profile: _Grey) -> int:
    """Peaks of ink over the height of a strip, between which it falls by `_ROW_DEPTH` of the highest."""
    width = max(3, len(profile) // 40)
    smooth = np.convolve(np.pad(profile, width, mode="edge"), np.full(width, 1 / width), mode="same")[width:-width]
    fullest, paper = float(smooth.max()), float(np.percentile(smooth, 5))
    if fullest - paper < max(0.5, paper):  # levels of 255: an empty strip, or nothing but noise
        return 0
    depth = _ROW_DEPTH * (fullest - paper)
    rows, in_row, turn = 0, False, float(smooth[0])
    for ink in smooth.tolist():
        turn = max(turn, ink) if in_row else min(turn, ink)
        if abs(ink - turn) >= depth:
            in_row, turn = not in_row, ink
            rows += in_row
    return rows


def _reduced(pixels: LinePixels, *, max_rows: int, max_columns: int) -> _Grey:
    """The green channel in mean values of boxes, so that at most so many rows and columns are left.

    Of a large box only 2 x 2 samples are averaged: the whole of a photograph would take 20 ms.
    """
    row_boxes, column_boxes = (
        -(-size // most) for size, most in zip(pixels.shape[:2], (max_rows, max_columns), strict=True)
    )
    grey = pixels[:: -(-row_boxes // 2), :: -(-column_boxes // 2), 1].astype(np.float32)
    if row_boxes > 1:
        grey = _pairs(grey)
    return _pairs(grey.T).T if column_boxes > 1 else grey


def _smooth(grey: _Grey) -> _Grey:
    """Means of 3 x 3: strokes keep most of their contrast, noise a third."""
    for _ in range(2):
        if len(grey) > 2:
            grey = (grey[:-2] + grey[1:-1] + grey[2:]) / 3
        grey = grey.T
    return grey


def _pairs(grey: _Grey) -> _Grey:
    even = len(grey) // 2 * 2
    return (grey[:even:2] + grey[1:even:2]) / 2 if even else grey
