"""Lines of similar width, put together so that little is spent on padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.augmentation import AugmentationStrength, vary_line
from training.labels import Labels
from training.line_images import MAX_WIDTH_PX, GreyLine
from training.line_pixels import LineFormat, padded_width_px, stack_lines
from training.line_pool import LinePool
from training.plan import Lesson
from training.surroundings import with_surroundings

#: Lines that are drawn at once and sorted by width.
_DRAWN = 256
#: Share of the lines that get margins and parts of other lines around them, when lines are varied most.
_ROUGHLY_CUT_SHARE = 0.3
#: Share of the batches that get the full width, as the model is served, and of those that get some more padding.
_FULL_WIDTH_SHARE = 0.12
_PADDED_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Lines to learn from together."""

    #: uint8 grey of shape (B, H, W).
    pixels: torch.Tensor
    #: int64 of shape (B, L + 2): start token, text, end token, then padding.
    tokens: torch.Tensor
    #: int64 of shape (B,): tokens of the text alone.
    lengths: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class TokenFrame:
    """The special tokens around a text."""

    start: int
    end: int
    pad: int
    #: The most tokens that the decoder can hold, start and end included.
    most: int


class BatchMaker:
    """Draws, varies and stacks lines."""

    def __init__(
        self, pool: LinePool, labels: Labels, frame: TokenFrame, line_format: LineFormat, *, column_px: int
    ) -> None:
        """Keep what batches are made of.

        Args:
            pool: Where lines come from.
            labels: How texts become tokens.
            frame: The tokens around them.
            line_format: The encoder's picture of a line.
            column_px: Width of a patch when patches are columns, so that short lines may be narrower; else 0.
        """
        self._pool = pool
        self._labels = labels
        self._frame = frame
        self._format = line_format
        self._column_px = column_px

    def batches(self, lesson: Lesson, rng: np.random.Generator, *, tokens: int, line_tokens: int) -> Iterator[Batch]:
        """Make the batches of one drawing.

        Args:
            lesson: Which lines, and how varied.
            rng: Where chance comes from.
            tokens: Encoder tokens that a batch may hold.
            line_tokens: Encoder tokens of a line at full width.
        """
        drawn = [self._varied(lesson, rng) for _ in range(_DRAWN)]
        drawn = [line for line in drawn if line[1]]
        drawn.sort(key=lambda line: line[0].shape[1] + rng.uniform(0, 40))
        groups = list(self._groups(drawn, tokens, line_tokens))
        for index in rng.permutation(len(groups)):
            yield self._stacked(groups[index], rng)

    def _varied(self, lesson: Lesson, rng: np.random.Generator) -> tuple[GreyLine, list[int]]:
        line, text = self._pool.draw(lesson, rng)
        # With its margins the line must still be one that OpenCV bends.
        fits = line.shape[1] + 2 * line.shape[0] < MAX_WIDTH_PX
        if fits and rng.random() < _ROUGHLY_CUT_SHARE * lesson.augmentation:
            above, below = (self._pool.draw(lesson, rng)[0] for _ in range(2))
            line = with_surroundings(line, above, below, rng)
        strength = AugmentationStrength(geometry=lesson.augmentation, ink=lesson.augmentation)
        height_px, max_width_px = self._format.height_px, self._format.width_px
        if not self._format.keeps_aspect:
            height_px, max_width_px = line.shape[0], MAX_WIDTH_PX
        varied = vary_line(line, rng, strength, height_px=height_px, max_width_px=max_width_px)
        return varied, self._labels.encode(text)[: self._frame.most - 2]

    def _groups(
        self, lines: Sequence[tuple[GreyLine, list[int]]], tokens: int, line_tokens: int
    ) -> Iterator[list[tuple[GreyLine, list[int]]]]:
        group: list[tuple[GreyLine, list[int]]] = []
        for line in lines:
            longest = self._tokens_of([*(pixels for pixels, _ in group), line[0]], line_tokens)
            if group and longest * (len(group) + 1) > tokens:
                yield group
                group = []
            group.append(line)
        if group:
            yield group

    def _tokens_of(self, lines: Sequence[GreyLine], line_tokens: int) -> int:
        if not self._column_px:
            return line_tokens
        return padded_width_px(lines, self._format, column_px=self._column_px) // self._column_px + 1

    def _stacked(self, group: Sequence[tuple[GreyLine, list[int]]], rng: np.random.Generator) -> Batch:
        lines = [line for line, _ in group]
        width_px = self._format.width_px
        if self._column_px and rng.random() > _FULL_WIDTH_SHARE:
            width_px = padded_width_px(lines, self._format, column_px=self._column_px)
            if rng.random() < _PADDED_SHARE:
                extra_px = 2 * self._column_px * int(rng.integers(12))
                width_px = min(self._format.width_px, width_px + extra_px)
        texts = [ids for _, ids in group]
        tokens = np.full((len(texts), max(map(len, texts)) + 2), self._frame.pad, dtype=np.int64)
        for row, ids in zip(tokens, texts, strict=True):
            row[0] = self._frame.start
            row[1 : len(ids) + 1] = ids
            row[len(ids) + 1] = self._frame.end
        return Batch(
            pixels=stack_lines(lines, self._format, width_px=width_px),
            tokens=torch.from_numpy(tokens),
            lengths=torch.tensor([len(ids) for ids in texts]),
        )
