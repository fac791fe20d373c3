"""The lines of a run: real ones in memory, synthetic ones on disk."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.cut_lines import CutLine, WholeLine, by_hand
from training.line_images import GreyLine, load_line
from training.line_store import LineStore
from training.mixed_lines import MixedLines
from training.plan import Lesson
from training.rewritten_lines import RewrittenLines
from training.samples import LineSample, hand_of
from training.texts import TextSource

#: Share of the lines joined anew that get another text, letter by letter; the others keep runs of words.
_REWRITTEN_SHARE = 0.5


class LinePool:
    """Draws lines that suit a lesson."""

    def __init__(self, samples: Sequence[LineSample], synthetic: LineStore | None, *, max_height_px: int) -> None:
        """Load the real lines, at most `max_height_px` high; synthetic lines stay on disk."""
        #: In the order of the samples.
        self.real = [
            WholeLine(pixels=load_line(sample, max_height_px=max_height_px), text=sample.text, hand=hand_of(sample))
            for sample in samples
        ]
        self._real_order = _by_length([line.text for line in self.real])
        self._joined: tuple[MixedLines, RewrittenLines] | None = None
        self._synthetic = synthetic
        self._synthetic_order = _by_length(synthetic.texts if synthetic else [])

    def mix(self, lines: Sequence[CutLine], texts: TextSource) -> None:
        """Draw also lines that are joined anew from these, if there are any, from now on.

        Args:
            lines: What to take words and letters from.
            texts: What is written with letters; the words stay as they are.
        """
        hands = by_hand(lines)
        self._joined = (MixedLines(hands), RewrittenLines(hands, texts)) if hands else None

    def draw(self, lesson: Lesson, rng: np.random.Generator) -> tuple[GreyLine, str]:
        """Draw a line: its pixels, uint8 grey of shape (H, W), and its text."""
        real = self._synthetic is None or rng.random() < lesson.real_share
        if real and self._joined and math.isinf(lesson.max_chars) and rng.random() < lesson.mixed_share:
            mixed, rewritten = self._joined
            return (rng.random() < _REWRITTEN_SHARE and rewritten.draw(rng)) or mixed.draw(rng)
        if real and self.real:
            index = _draw_short(self._real_order, lesson.max_chars, rng)
            return self.real[index].pixels, self.real[index].text
        if self._synthetic is None:
            raise ValueError("there are neither real nor synthetic lines to draw from")
        index = _draw_short(self._synthetic_order, lesson.max_chars, rng)
        return self._synthetic.image(index), self._synthetic.texts[index]


@dataclass(frozen=True, kw_only=True)
class _ByLength:
    """Indices of texts, shortest first, with their lengths."""

    indices: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


def _by_length(texts: Sequence[str]) -> _ByLength:
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    indices = np.argsort(lengths, kind="stable")
    return _ByLength(indices=indices, lengths=lengths[indices])


def _draw_short(order: _ByLength, max_chars: float, rng: np.random.Generator) -> int:
    """Draw among the texts of at most `max_chars` characters, or the shortest one when all are longer."""
    suitable = max(1, int(np.searchsorted(order.lengths, max_chars, side="right")))
    return int(order.indices[rng.integers(suitable)])


def lines_digest(samples: Sequence[LineSample]) -> str:
    """Name a set of lines by its content: SHA-256 over files and texts, in their order."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.image.read_bytes())
        digest.update(repr((sample.polygon, sample.text)).encode())
    return digest.hexdigest()
