"""Lines on their way into the model: drawn, kept, varied, stacked."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from training.augmentation import AugmentationStrength, vary_line
from training.fonts import FontFile, find_fonts, has_glyph
from training.labels import character_tokenizer, labels_of
from training.line_pixels import LineFormat, normalized, padded_width_px, stack_lines
from training.line_store import open_store, write_store
from training.new_model import ModelShape, new_processor
from training.synthesis import LineSynthesizer
from training.texts import TextSource, read_text_lines

_SHAPE = ModelShape(height_px=16, width_px=96, column_px=4)


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> FontFile:
    """Pillow's own font, as a file."""
    path = tmp_path_factory.mktemp("fonts") / "pillow.ttf"
    built_in = ImageFont.load_default(20)
    assert isinstance(built_in, ImageFont.FreeTypeFont)
    path.write_bytes(built_in.font_bytes)
    return FontFile(path=path, name="pillow", licence="unstated")


def test_fonts_come_with_the_licence_of_their_package(tmp_path: Path, font: FontFile) -> None:
    package = tmp_path / "hand"
    (package / "files").mkdir(parents=True)
    (package / "package.json").write_text('{"name": "@fontsource/hand", "license": "OFL-1.1"}')
    (package / "files" / "hand.ttf").write_bytes(font.path.read_bytes())
    assert [(found.name, found.licence) for found in find_fonts([tmp_path])] == [("@fontsource/hand", "OFL-1.1")]


def test_a_font_knows_which_letters_it_lacks(font: FontFile) -> None:
    assert has_glyph(font.path, "a")
    assert not has_glyph(font.path, "\u15c5")


def test_the_same_seed_draws_the_same_lines(font: FontFile) -> None:
    synthesizer = LineSynthesizer([font], TextSource(["Dear Sir, I am"], ["word"]), height_px=16, max_width_px=96)
    first, again = (synthesizer.draw(random.Random(3), max_chars=8) for _ in range(2))
    assert first.text == again.text
    assert first.pixels.shape[0] == 16
    assert first.pixels.min() < 100
    assert np.array_equal(first.pixels, again.pixels)


@given(seed=st.integers(0, 10_000), max_chars=st.integers(1, 90))
@settings(max_examples=50, deadline=None)
def test_a_drawn_text_is_never_too_long_nor_empty(seed: int, max_chars: int) -> None:
    texts = TextSource(["les compétitions nationales et les matchs"], ["aujourd'hui", "zèle"])
    assert 1 <= len(texts.draw(random.Random(seed), max_chars=max_chars)) <= max_chars


def test_without_word_lists_texts_are_prose_but_for_some_figures() -> None:
    texts, rng = TextSource(["un homme de bien"], []), random.Random(1)
    drawn = [texts.draw(rng, max_chars=30).lower() for _ in range(200)]
    prose = [text for text in drawn if set(text.split()) <= {"un", "homme", "de", "bien", "u", "h", "hom"}]
    assert 160 < len(prose) < 200


def test_a_file_of_texts_gives_each_of_its_lines_once_and_counts_as_often_as_it_is_given(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("Il était une fois.\n\n  Une autre. \nUne autre.\n", encoding="utf-8")
    second.write_text("Fin\n", encoding="utf-8")
    assert read_text_lines([first, second, second]) == ["Il était une fois.", "Une autre.", "Fin", "Fin"]


def test_a_store_gives_back_what_was_put_in(tmp_path: Path) -> None:
    lines = [(np.full((16, width), width, dtype=np.uint8), str(width)) for width in (5, 30)]
    write_store(tmp_path, lines, height_px=16)
    store = open_store(tmp_path)
    assert (len(store), store.texts) == (2, ["5", "30"])
    assert np.array_equal(store.image(1), lines[1][0])


@given(width=st.integers(4, 400), height=st.integers(8, 80), amount=st.floats(0, 1), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_a_varied_line_never_exceeds_the_size(width: int, height: int, amount: float, seed: int) -> None:
    line = np.full((height, width), 200, dtype=np.uint8)
    strength = AugmentationStrength(geometry=amount, ink=amount)
    varied = vary_line(line, np.random.default_rng(seed), strength, height_px=16, max_width_px=96)
    assert varied.shape[0] <= 16
    assert varied.shape[1] <= 96


def test_without_variation_a_line_of_the_right_height_stays_as_it_is() -> None:
    line = np.random.default_rng(1).integers(0, 255, (16, 40)).astype(np.uint8)
    still = AugmentationStrength(geometry=0, ink=0)
    varied = vary_line(line, np.random.default_rng(1), still, height_px=16, max_width_px=96)
    assert np.array_equal(varied, line)


def test_lines_are_stacked_as_the_processor_would_pad_them() -> None:
    processor = new_processor(_SHAPE)
    line_format = LineFormat.of(processor)
    line = np.random.default_rng(1).integers(0, 255, (16, 40)).astype(np.uint8)
    served = processor.image_processor(Image.fromarray(line).convert("RGB"), return_tensors="pt").pixel_values
    stacked = stack_lines([line], line_format, width_px=line_format.width_px)
    assert np.allclose(normalized(stacked, line_format, served.dtype), served[:, 0], atol=1e-6)


@pytest.mark.parametrize(("widths", "padded"), [([1], 8), ([8, 3], 8), ([9], 16), ([95], 96), ([96], 96)])
def test_the_padding_is_an_even_number_of_columns(widths: list[int], padded: int) -> None:
    lines = [np.zeros((16, width), dtype=np.uint8) for width in widths]
    assert padded_width_px(lines, LineFormat.of(new_processor(_SHAPE)), column_px=4) == padded


def test_each_character_is_one_token_and_unknown_ones_are_left_out() -> None:
    labels = labels_of(character_tokenizer(), Path("no-such-folder"))
    ids = labels.encode("Été \u15c5\u20191")
    assert len(ids) == 6
    assert labels.decode([1, *ids, 2]) == "Été \u20191"
