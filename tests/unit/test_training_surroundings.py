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


def test_the_foot_of_the_line_above_and_the_head_of_the_line_below_are_seen_and_not_always() -> None:
    line, above, below = (np.full((40, 200), 220, dtype=np.uint8) for _ in range(3))
    above[:20, ::8], above[20:, ::8] = 30, 60
    below[:20, ::8], below[20:, ::8] = 90, 120
    seen_above = seen_below = 0
    for seed in range(40):
        around = with_surroundings(line, above, below, np.random.default_rng(seed))
        middle = len(around) // 2
        top, bottom = ({*half.flat} - {220} for half in (around[:middle], around[middle:]))
        assert top <= {60}
        assert bottom <= {90}
        seen_above += bool(top)
        seen_below += bool(bottom)
    assert 0 < seen_above < 40
    assert 0 < seen_below < 40


def test_margins_are_of_all_widths() -> None:
    line = _line(10)
    shapes = [with_surroundings(line, line, line, np.random.default_rng(seed)).shape for seed in range(40)]
    heights, widths = zip(*shapes, strict=True)
    assert min(heights) < 44 < 52 < max(heights) <= 40 * 1.44
    assert min(widths) < 220 < 240 < max(widths) <= 200 + 40 * 1.6
