"""New lines out of the words of real ones, so that neither a whole line nor its sentence can be learnt by heart."""

from collections.abc import Sequence

import numpy as np

from training.cut_lines import CutLine, LinePiece, joined
from training.line_images import GreyLine

#: How wide a mixed line is meant to be, in heights.
_NARROWEST, _WIDEST = 3.0, 17.0
_MOST_WORDS_OF_ONE_LINE = 5
#: Share of the pieces that come from the first one's hand; the rest come from anywhere.
_SAME_HAND_SHARE = 0.8


class MixedLines:
    """Joins runs of words of several lines into one line."""

    def __init__(self, hands: Sequence[Sequence[CutLine]]) -> None:
        """Take lines, parted by the hands that wrote them."""
        self._lines = [line for hand in hands for line in hand]
        self._hands = [hand for hand in hands for _ in hand]

    def draw(self, rng: np.random.Generator) -> tuple[GreyLine, str]:
        """Draw a line: its pixels, uint8 grey of shape (H, W), and its text."""
        wanted = rng.uniform(_NARROWEST, _WIDEST)
        home = int(rng.integers(len(self._lines)))
        piece, words = _piece(self._lines[home], rng)
        pieces = [piece]
        while sum(map(_width, pieces)) < wanted:
            lines = self._hands[home] if rng.random() < _SAME_HAND_SHARE else self._lines
            piece, more = _piece(lines[int(rng.integers(len(lines)))], rng)
            pieces.append(piece)
            words += more
        return joined(pieces), " ".join(words)


def _piece(line: CutLine, rng: np.random.Generator) -> tuple[LinePiece, list[str]]:
    """Cut a run of words out of a line."""
    first = int(rng.integers(len(line.words)))
    run = line.words[first : first + 1 + int(rng.integers(_MOST_WORDS_OF_ONE_LINE))]
    piece = LinePiece(line=line, left_px=run[0].edges_px[0], right_px=run[-1].edges_px[-1])
    return piece, [word.text for word in run]


def _width(piece: LinePiece) -> float:
    """Give a piece's width in heights."""
    return (piece.right_px - piece.left_px) / len(piece.line.pixels)
