"""New lines out of the words of real ones, so that neither a whole line nor its sentence can be learnt by heart."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from training.line_images import GreyLine

#: How wide a mixed line is meant to be, in heights.
_NARROWEST, _WIDEST = 3.0, 17.0
_MOST_WORDS_OF_ONE_LINE = 5
#: Share of the pieces that come from near the first one, where the same hand wrote; the rest come from anywhere.
_SAME_HAND_SHARE = 0.8
#: Lines before and after one that count as near.
_NEAR = 8


@dataclass(frozen=True, kw_only=True)
class CutLine:
    """A line with the places between its words."""

    #: uint8 grey of shape (H, W).
    pixels: GreyLine
    words: tuple[str, ...]
    #: Edges of the words in pixels, one more than there are words: word i stands between edge i and edge i + 1.
    edges_px: tuple[int, ...]


class MixedLines:
    """Joins runs of words of several lines into one line."""

    def __init__(self, lines: Sequence[CutLine]) -> None:
        """Take lines in the order of their pages, since those near each other are taken for one hand's."""
        self._lines = lines

    def draw(self, rng: np.random.Generator) -> tuple[GreyLine, str]:
        """Draw a line: its pixels, uint8 grey of shape (H, W), and its text."""
        wanted = rng.uniform(_NARROWEST, _WIDEST)
        home = int(rng.integers(len(self._lines)))
        first, words = self._piece(home, rng)
        pieces = [first]
        while sum(piece.shape[1] for piece in pieces) < wanted * first.shape[0]:
            piece, more = self._piece(self._other(home, rng), rng)
            pieces.append(_matched(piece, first))
            words += more
        return np.concatenate(pieces, axis=1), " ".join(words)

    def _other(self, home: int, rng: np.random.Generator) -> int:
        if rng.random() > _SAME_HAND_SHARE:
            return int(rng.integers(len(self._lines)))
        return int(np.clip(home + rng.integers(-_NEAR, _NEAR + 1), 0, len(self._lines) - 1))

    def _piece(self, index: int, rng: np.random.Generator) -> tuple[GreyLine, tuple[str, ...]]:
        """Cut a run of words out of a line."""
        line = self._lines[index]
        first = int(rng.integers(len(line.words)))
        last = min(len(line.words), first + 1 + int(rng.integers(_MOST_WORDS_OF_ONE_LINE)))
        return line.pixels[:, line.edges_px[first] : line.edges_px[last]], line.words[first:last]


def _matched(piece: GreyLine, model: GreyLine) -> GreyLine:
    """Bring a piece to the height of another, and its paper to the grey of the other's."""
    height_px = model.shape[0]
    width_px = max(1, round(piece.shape[1] * height_px / piece.shape[0]))
    scaled = cv2.resize(piece, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    ratio = float(np.percentile(model, 80)) / max(1.0, float(np.percentile(scaled, 80)))
    matched: GreyLine = np.clip(scaled * ratio, 0, 255).astype(np.uint8)
    return matched
