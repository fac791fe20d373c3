from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import image_samples as samples
from worker.line_checks import is_blank, looks_like_page
from worker.recognizer import LinePixels

DATA = Path(__file__).parent.parent / "data"
FILES = sorted(path for path in DATA.iterdir() if path.suffix in (".jpg", ".webp"))
LINES = {path.name: np.asarray(Image.open(path).convert("RGB")) for path in FILES}
SIZES = [(64, 1000), (48, 320), (20, 60), (200, 3000), (3, 5), (1, 1)]


def paper(shape: tuple[int, int], *, level: float = 230, slope: float = 0, noise: float = 0) -> LinePixels:
    """Paper that darkens by `slope` levels from left to right, with normal noise of that sigma."""
    grey = level - slope * np.linspace(0, 1, shape[1]) + np.random.default_rng(7).normal(0, noise, shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def faint(line: LinePixels, *, contrast: float, noise: float) -> LinePixels:
    """The same line in thin pencil on noisy paper."""
    ink = (255 - line.astype(float)) * contrast
    return np.clip(230 - ink + np.random.default_rng(7).normal(0, noise, line.shape), 0, 255).astype(np.uint8)


def stacked(rows: int, *, pitch: int = 70) -> LinePixels:
    """A page of the real lines one below the other, `pitch` px from one to the next."""
    chosen = [[*LINES.values()][index % len(LINES)] for index in range(rows)]
    page = np.full((40 + 64 + pitch * (rows - 1), 40 + max(line.shape[1] for line in chosen), 3), 255, np.uint8)
    for index, line in enumerate(chosen):
        top = 20 + index * pitch
        page[top : top + line.shape[0], 20 : 20 + line.shape[1]] = line
    return page


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("level", [255, 128, 0])
def test_even_paper_of_any_shade_is_blank(size: tuple[int, int], level: int) -> None:
    assert is_blank(paper(size, level=level))


@pytest.mark.parametrize("size", SIZES)
def test_paper_in_slanting_light_is_blank(size: tuple[int, int]) -> None:
    assert is_blank(paper(size, slope=min(100, size[1])))


@pytest.mark.parametrize("size", SIZES[:4])
@pytest.mark.parametrize("noise", [2, 4, 8])
def test_noisy_paper_is_blank(size: tuple[int, int], noise: float) -> None:
    assert is_blank(paper(size, level=200, noise=noise))


@pytest.mark.parametrize("name", LINES)
def test_no_real_line_is_blank(name: str) -> None:
    assert not is_blank(LINES[name])


@pytest.mark.parametrize("name", LINES)
def test_light_ink_on_dark_paper_is_not_blank(name: str) -> None:
    assert not is_blank(255 - LINES[name])


@pytest.mark.parametrize("name", LINES)
def test_faint_handwriting_on_noisy_paper_is_not_blank(name: str) -> None:
    assert not is_blank(faint(LINES[name], contrast=0.25, noise=4))


def test_one_word_on_a_long_strip_is_not_blank() -> None:
    strip = paper((64, 2000), level=255)
    strip[:, 900:1000] = LINES["line.jpg"][:, :100]
    assert not is_blank(strip)


@pytest.mark.parametrize("name", LINES)
def test_no_real_line_looks_like_a_page(name: str) -> None:
    assert not looks_like_page(LINES[name])


@pytest.mark.parametrize("size", SIZES)
def test_blank_paper_does_not_look_like_a_page(size: tuple[int, int]) -> None:
    assert not looks_like_page(paper(size, noise=4))


def test_two_rows_are_not_yet_a_page() -> None:
    assert not looks_like_page(stacked(2))


@pytest.mark.parametrize("rows", [4, 6, 10, 20, 40])
@pytest.mark.parametrize("pitch", [64, 90])
def test_rows_one_below_the_other_look_like_a_page(rows: int, pitch: int) -> None:
    assert looks_like_page(stacked(rows, pitch=pitch))


@pytest.mark.parametrize("degrees", [-2, 2])
def test_a_skewed_page_is_still_a_page(degrees: float) -> None:
    skewed = Image.fromarray(stacked(12)).rotate(degrees, expand=True, fillcolor="white")
    assert looks_like_page(np.asarray(skewed))


def test_a_photographed_page_is_still_a_page() -> None:
    photograph = Image.fromarray(stacked(12)).resize((4000, 3000))
    assert looks_like_page(np.asarray(photograph))


def test_a_drawing_of_ruled_lines_is_not_a_page() -> None:
    ruled = paper((400, 600), level=255)
    ruled[40::60] = 120
    assert not looks_like_page(ruled)


def test_the_sample_strip_of_the_tests_is_a_line() -> None:
    strip = np.asarray(samples.ink_line())
    assert not is_blank(strip)
    assert not looks_like_page(strip)
