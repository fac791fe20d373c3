"""Margins and parts of other lines around a line."""

import numpy as np
import pytest

from training.line_images import GreyLine
from training.surroundings import with_surroundings


def _line(ink: int, *, height_px: int = 40, width_px: int = 200, paper: int = 220) -> GreyLine:
    line = np.full((height_px, width_px), paper, dtype=np.uint8)
    line[height_px // 10 : -height_px // 10, 10:-10:4] = ink
    return line


@pytest.mark.parametrize("seed", range(20))
def test_all_that_was_written_stays_and_the_paper_is_the_lines_own(seed: int) -> None:
    line = _line(10)
    around = with_surroundings(line, _line(90, paper=255), _line(90, paper=120), np.random.default_rng(seed))
    assert around.dtype == np.uint8
    assert (around == 10).sum() == (line == 10).sum()
    assert np.percentile(around, 80) == 220


def test_lines_above_and_below_are_seen_at_the_edges_alone_and_not_always() -> None:
    line, other = np.full((40, 200), 220, dtype=np.uint8), np.full((30, 90), 220, dtype=np.uint8)
    other[:, ::3] = 50
    seen_above = seen_below = 0
    for seed in range(40):
        around = with_surroundings(line, other, other, np.random.default_rng(seed))
        dark_rows = np.flatnonzero((around < 200).any(axis=1))
        assert set(dark_rows) <= {*range(12), *range(len(around) - 12, len(around))}
        seen_above += 0 in dark_rows
        seen_below += len(around) - 1 in dark_rows
    assert 0 < seen_above < 40
    assert 0 < seen_below < 40


def test_margins_are_of_all_widths() -> None:
    line = _line(10)
    shapes = [with_surroundings(line, line, line, np.random.default_rng(seed)).shape for seed in range(40)]
    heights, widths = zip(*shapes, strict=True)
    assert min(heights) < 44 < 52 < max(heights) <= 40 * 1.44
    assert min(widths) < 220 < 240 < max(widths) <= 200 + 40 * 1.6
