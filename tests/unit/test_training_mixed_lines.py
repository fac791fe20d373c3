"""New lines out of the words of real ones."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.cut_lines import CutLine, CutWord
from training.line_pool import LinePool
from training.mixed_lines import MixedLines
from training.plan import Lesson
from training.samples import Hand, LineSample
from training.texts import TextSource

_NOBODYS = Hand(source="drawn", kind="", form="1")
#: The grey of each word, by which the test knows it again.
_GREYS = {"un": 40, "deux": 80, "trois": 120, "quatre": 160}


def _line(words: tuple[str, ...], *, height_px: int = 20) -> CutLine:
    """Draw each word as a bar of its own grey, 30 pixels wide, before 30 pixels of white."""
    pixels = np.full((height_px, 60 * len(words)), 255, dtype=np.uint8)
    for index, word in enumerate(words):
        pixels[:, 60 * index : 60 * index + 30] = _GREYS[word]
    return CutLine(
        pixels=pixels, words=tuple(_word(word, 60 * index) for index, word in enumerate(words)), hand=_NOBODYS
    )


def _word(text: str, left_px: int) -> CutWord:
    return CutWord(text=text, edges_px=(*range(left_px, left_px + len(text)), left_px + 60))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_mixed_line_shows_the_words_that_its_text_says(seed: int) -> None:
    lines = MixedLines([[_line(("un", "deux", "trois")), _line(("quatre",))], [_line(("deux", "un"))]])
    pixels, text = lines.draw(np.random.default_rng(seed))
    greys = [int(pixels[10, 60 * index + 15]) for index in range(len(text.split(" ")))]
    assert greys == [_GREYS[word] for word in text.split(" ")]
    assert pixels.shape == (20, 60 * len(greys))


@pytest.mark.parametrize(
    ("mixed_share", "max_chars", "mixes"), [(1, math.inf, True), (0, math.inf, False), (1, 16, False)]
)
def test_a_pool_draws_mixed_lines_once_texts_may_be_long(
    tmp_path: Path, mixed_share: float, max_chars: float, mixes: bool
) -> None:
    Image.new("L", (60, 20), 255).save(tmp_path / "line.png")
    sample = LineSample(image=tmp_path / "line.png", text="as it is", page="1", source="drawn")
    pool = LinePool([sample], None, max_height_px=20)
    pool.mix([_line(("un",))], TextSource(["un"], []))
    lesson = Lesson(max_chars=max_chars, real_share=1, mixed_share=mixed_share, augmentation=0)
    _, text = pool.draw(lesson, np.random.default_rng(1))
    assert set(text.split(" ")) == ({"un"} if mixes else {"as", "it", "is"})


def test_a_pool_also_draws_texts_that_were_never_written() -> None:
    pool = LinePool([], None, max_height_px=20)
    pool.mix([_line(("un", "deux"))], TextSource(["deun"], []))
    lesson = Lesson(max_chars=math.inf, real_share=1, mixed_share=1, augmentation=0)
    drawn = {word for seed in range(60) for word in pool.draw(lesson, np.random.default_rng(seed))[1].split(" ")}
    assert drawn == {"un", "deux", "deun"}


def test_a_pool_draws_words_where_a_hand_can_write_none_of_the_texts() -> None:
    pool = LinePool([], None, max_height_px=20)
    pool.mix([_line(("un", "deux"))], TextSource(["zzz"], []))
    lesson = Lesson(max_chars=math.inf, real_share=1, mixed_share=1, augmentation=0)
    drawn = {word for seed in range(60) for word in pool.draw(lesson, np.random.default_rng(seed))[1].split(" ")}
    assert drawn == {"un", "deux"}


def test_words_of_several_lines_come_together() -> None:
    lines = MixedLines([[_line(("un",)), _line(("deux",))]])
    rng = np.random.default_rng(1)
    assert any({"un", "deux"} <= set(lines.draw(rng)[1].split(" ")) for _ in range(20))


@pytest.mark.parametrize("height_px", [10, 40])
def test_pieces_of_other_heights_are_brought_to_that_of_the_first(height_px: int) -> None:
    lines = MixedLines([[_line(("un",)), _line(("deux",), height_px=height_px)]])
    for seed in range(20):
        pixels, _ = lines.draw(np.random.default_rng(seed))
        assert pixels.dtype == np.uint8
        assert pixels.shape[0] in {20, height_px}


def test_a_darker_page_is_lightened_to_the_paper_of_the_first_piece() -> None:
    dark = _line(("un",))
    dark = CutLine(pixels=dark.pixels // 2, words=dark.words, hand=_NOBODYS)
    lines = MixedLines([[_line(("deux",)), dark]])
    for seed in range(20):
        pixels, _ = lines.draw(np.random.default_rng(seed))
        papers = pixels[10, 45::60]
        assert int(papers.max()) - int(papers.min()) <= 2
