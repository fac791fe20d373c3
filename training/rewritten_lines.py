"""New texts in the hands of real lines, put together from letters and runs of letters that one hand wrote."""

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from training.cut_lines import CutLine, CutWord, LinePiece, has_ink, joined
from training.line_images import GreyLine
from training.texts import TextSource

_MOST_CHARS = 70
_ATTEMPTS = 10
#: Share of a text's characters in words that the hand can write, below which another text is drawn.
_LEAST_WRITTEN = 0.4
#: Letters of a piece in the mean, below which another text is drawn: of less the most would be seams.
_LEAST_LETTERS = 1.6


class RewrittenLines:
    """Writes texts in the hands of real lines."""

    def __init__(self, hands: Sequence[Sequence[CutLine]], texts: TextSource) -> None:
        """Keep what to write, and with what.

        Args:
            hands: Lines, parted by the hands that wrote them; one with more lines writes more.
            texts: What they are to say; words of which the hand lacks a letter are left out.
        """
        self._hands = [hand for lines in hands for hand in [_Hand(lines)] * len(lines)]
        self._texts = texts

    def draw(self, rng: np.random.Generator) -> tuple[GreyLine, str] | None:
        """Draw a line, its pixels, uint8 grey of shape (H, W), and its text; None when a hand can write too little."""
        hand = self._hands[int(rng.integers(len(self._hands)))]
        chance = random.Random(int(rng.integers(2**32)))
        for _ in range(_ATTEMPTS):
            text = self._texts.draw(chance, max_chars=_MOST_CHARS)
            written = [(word, hand.write(word, chance)) for word in text.split()]
            words = [word for word, pieces in written if pieces]
            pieces = [piece for _, pieces in written for piece in pieces]
            letters = sum(map(len, words))
            if pieces and letters >= max(_LEAST_WRITTEN * len(text), _LEAST_LETTERS * len(pieces)):
                return joined(pieces), " ".join(words)
        return None


class _Hand:
    """Words of one hand, in which runs of letters are looked up."""

    def __init__(self, lines: Sequence[CutLine]) -> None:
        self._words = [(line, word) for line in lines for word in line.words if _all_written(line, word)]
        self._text = f" {' '.join(word.text for _, word in self._words)} "
        self._starts = list(accumulate((len(word.text) + 1 for _, word in self._words), initial=1))

    def write(self, word: str, chance: random.Random) -> list[LinePiece]:
        """Write a word with the longest runs there are, from left to right; empty when a letter is missing.

        Its first and last letter come from starts and ends of words, the others from within.
        """
        pieces: list[LinePiece] = []
        start = 0
        while start < len(word):
            ends = range(len(word), start, -1)
            places = ((end, self._find(word, start, end, chance)) for end in ends)
            found = next(((end, place) for end, place in places if place is not None), None)
            if found is None:
                return []
            end, place = found
            pieces.append(self._piece(place, end - start))
            start = end
        return pieces

    def _find(self, word: str, start: int, end: int, chance: random.Random) -> int | None:
        """Look for a run of letters from a place left to chance, and give where its first letter stands in the text."""
        before, after = " " * (start == 0), " " * (end == len(word))
        run = before + word[start:end] + after
        first = chance.randrange(len(self._text))
        for low, high in ((first, len(self._text)), (0, first + len(run))):
            place = self._text.find(run, low, high)
            while place >= 0:
                within_before = before or self._text[place - 1] != " "
                within_after = after or self._text[place + len(run)] != " "
                if within_before and within_after:
                    return place + len(before)
                place = self._text.find(run, place + 1, high)
        return None

    def _piece(self, place: int, letters: int) -> LinePiece:
        index = bisect_right(self._starts, place) - 1
        line, word = self._words[index]
        first = place - self._starts[index]
        return LinePiece(line=line, left_px=word.edges_px[first], right_px=word.edges_px[first + letters])


def _all_written(line: CutLine, word: CutWord) -> bool:
    """Whether each letter of a word got ink, so that none would be shown where there is nothing."""
    return all(has_ink(LinePiece(line=line, left_px=left, right_px=right)) for left, right in pairwise(word.edges_px))
