"""Lines are drawn, varied and put together."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import batches
from training.batches import BatchMaker, TokenFrame
from training.line_images import MAX_WIDTH_PX, GreyLine
from training.line_pixels import LineFormat
from training.line_pool import LinePool
from training.plan import Lesson
from training.samples import LineSample
from training.surroundings import with_surroundings

_FRAME = TokenFrame(start=1, end=2, pad=0, most=20)
_FORMAT = LineFormat(height_px=16, width_px=320, keeps_aspect=True, mean=0.5, std=0.5)


class _Ordinals:
    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def _maker(folder: Path, *, width_px: int) -> BatchMaker:
    Image.new("L", (width_px, 20), 255).save(folder / "line.png")
    sample = LineSample(image=folder / "line.png", text="abc", page="1", source="drawn")
    pool = LinePool([sample], None, max_height_px=20)
    return BatchMaker(pool, _Ordinals(), _FRAME, _FORMAT, column_px=4)


def _surrounded(maker: BatchMaker, monkeypatch: pytest.MonkeyPatch, *, augmentation: float) -> int:
    """Make the batches of one drawing, of 256 lines, and count the lines that got surroundings."""
    seen = []

    def surround(line: GreyLine, above: GreyLine, below: GreyLine, rng: np.random.Generator) -> GreyLine:
        seen.append(line)
        return with_surroundings(line, above, below, rng)

    monkeypatch.setattr(batches, "with_surroundings", surround)
    lesson = Lesson(max_chars=math.inf, real_share=1, mixed_share=0, augmentation=augmentation)
    made = list(maker.batches(lesson, np.random.default_rng(1), tokens=1000, line_tokens=81))
    assert sum(len(batch.tokens) for batch in made) == 256
    assert all(batch.tokens[0].tolist()[:5] == [1, *map(ord, "abc"), 2] for batch in made)
    return len(seen)


def test_some_lines_are_cut_roughly_where_lines_are_varied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = _maker(tmp_path, width_px=100)
    assert _surrounded(maker, monkeypatch, augmentation=0) == 0
    assert 40 < _surrounded(maker, monkeypatch, augmentation=1) < 120


def test_the_widest_line_that_can_be_varied_gets_no_margins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _surrounded(_maker(tmp_path, width_px=MAX_WIDTH_PX), monkeypatch, augmentation=1) == 0
