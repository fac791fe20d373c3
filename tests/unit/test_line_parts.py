from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.line_parts import MOST_PARTS, parts_of
from worker.recognizer import LinePixels


def paper(width: int, height: int = 40) -> LinePixels:
    return np.full((height, width, 3), 230, np.uint8)


def words(count: int, *, height: int = 40) -> tuple[LinePixels, list[tuple[int, int]]]:
    """So many words of random strokes, one height wide and half of one apart, and where each is."""
    places = [(height * (2 + 3 * index) // 2, height * (4 + 3 * index) // 2) for index in range(count)]
    line = paper(places[-1][1] + height, height)
    random = np.random.default_rng(5)
    for left, right in places:
        line[4:-4, left:right] = random.integers(0, 2, (height - 8, right - left, 1), np.uint8) * 230
    return line, places


@given(
    width=st.integers(1, 6000), height=st.integers(1, 80), limit=st.floats(12, 70), seed=st.none() | st.integers(0, 9)
)
def test_the_parts_cover_every_column_overlap_and_are_never_too_wide(
    width: int, height: int, limit: float, seed: int | None
) -> None:
    line = paper(width, height)
    if seed is not None:
        line = np.random.default_rng(seed).integers(0, 256, line.shape, np.uint8)
    parts = parts_of(line, limit)
    assert (parts[0].left, parts[-1].right) == (0, width)
    assert all(left.left < right.left < left.right < right.right for left, right in pairwise(parts))
    if 1 < len(parts) < MOST_PARTS:
        assert all(part.right - part.left <= limit * height for part in parts)
    assert all(0 <= share <= 1 for part in parts for share in (part.shared_left, part.shared_right))


@pytest.mark.parametrize(
    ("width", "parts"), [(800, 1), (960, 1), (961, 2), (1280, 2), (1281, 3), (100_000, MOST_PARTS)]
)
def test_a_line_is_cut_into_as_few_parts_as_do(width: int, parts: int) -> None:
    assert len(parts_of(paper(width), 20.0)) == parts


def test_no_cut_goes_through_a_word_where_a_gap_is_near() -> None:
    line, places = words(50)
    parts = parts_of(line, 20.0)
    assert len(parts) > 3
    cuts = [part.left for part in parts[1:]] + [part.right for part in parts[:-1]]
    assert not [cut for cut in cuts for left, right in places if left < cut < right]


def test_a_part_knows_how_much_of_its_ink_its_neighbours_see() -> None:
    line, places = words(50)
    parts = parts_of(line, 20.0)
    for left, right in pairwise(parts):
        shared = sum(right.left <= start and end <= left.right for start, end in places)
        own = sum(left.left <= start and end <= left.right for start, end in places)
        assert left.shared_right == pytest.approx(shared / own, abs=0.02)
    assert parts[0].shared_left == parts[-1].shared_right == 0


def test_the_pixels_of_a_part_are_those_of_its_columns() -> None:
    line, _ = words(50)
    part = parts_of(line, 20.0)[1]
    assert np.array_equal(part.of(line), line[:, part.left : part.right])
