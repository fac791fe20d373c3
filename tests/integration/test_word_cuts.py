"""Lines are cut between their words and letters, by the bundled model's own CTC head."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.trocr_models import BUNDLED
from training.cut_lines import WholeLine
from training.hybrid_reader import HybridReader
from training.labels import Labels, labels_of
from training.line_images import GreyLine
from training.line_pixels import LineFormat
from training.samples import Hand
from training.start import starting_point
from training.word_cuts import cut_lines

_PRINTED = Hand(source="drawn", kind="print", form="1")
_TEXT = "Dear Sir, we have the letter"


@pytest.fixture(scope="module")
def reader() -> tuple[HybridReader, Labels]:
    start = starting_point(BUNDLED)
    reader = HybridReader(start.model, LineFormat.of(start.processor), ctc_weight=0.5)
    reader.load_ctc_head(start.folder)
    return reader, labels_of(start.processor.tokenizer, start.folder)


def _drawn(text: str, *, height_px: int) -> tuple[GreyLine, list[tuple[int, int]]]:
    """Draw a text, and tell where each of its words begins and ends."""
    font = ImageFont.load_default(height_px * 0.6)
    image = Image.new("L", (height_px * 15, height_px), 255)
    drawing, left, places = ImageDraw.Draw(image), height_px / 3, []
    for word in text.split(" "):
        drawing.text((left, height_px * 0.15), word, fill=0, font=font)
        places.append((int(left), int(left + drawing.textlength(word, font=font))))
        left += drawing.textlength(word + " ", font=font) + height_px / 6
    return np.asarray(image.crop((0, 0, round(left), height_px))), places


def _whole(pixels: GreyLine, text: str) -> WholeLine:
    return WholeLine(pixels=pixels, text=text, hand=_PRINTED)


@pytest.mark.parametrize("height_px", [48, 72])
def test_each_cut_lies_in_the_gap_between_two_words(reader: tuple[HybridReader, Labels], height_px: int) -> None:
    pixels, places = _drawn(_TEXT, height_px=height_px)
    (line,) = cut_lines(*reader, [_whole(pixels, _TEXT)])
    assert [word.text for word in line.words] == _TEXT.split(" ")
    assert line.hand == _PRINTED
    assert (line.words[0].edges_px[0], line.words[-1].edges_px[-1]) == (0, pixels.shape[1])
    for (left, right), ((_, end), (start, _)) in zip(pairwise(line.words), pairwise(places), strict=True):
        assert left.edges_px[-1] == right.edges_px[0]
        assert end - 2 <= right.edges_px[0] <= start + 2


def test_letters_are_cut_between_their_middles(reader: tuple[HybridReader, Labels]) -> None:
    pixels, places = _drawn(_TEXT, height_px=48)
    (line,) = cut_lines(*reader, [_whole(pixels, _TEXT)])
    font = ImageFont.load_default(48 * 0.6)
    misplaced_px = []
    for word, (start, _) in zip(line.words, places, strict=True):
        assert len(word.edges_px) == len(word.text) + 1
        assert all(left < right for left, right in pairwise(word.edges_px))
        drawn_px = [start + font.getlength(word.text[:letters]) for letters in range(1, len(word.text))]
        misplaced_px += [abs(edge - drawn) for edge, drawn in zip(word.edges_px[1:-1], drawn_px, strict=True)]
    assert float(np.median(misplaced_px)) <= 2
    assert max(misplaced_px) <= 10


def test_lines_that_cannot_be_cut_are_left_out(reader: tuple[HybridReader, Labels]) -> None:
    pixels, _ = _drawn("Dear Sir", height_px=48)
    too_short, a_sliver = pixels[:, :12], pixels[:, :1]
    lines = [
        _whole(pixels, "Dear Sir"),
        _whole(pixels, "Dear \u15c5ir"),
        _whole(too_short, "Dear Sir, we have"),
        _whole(a_sliver, "a b"),
    ]
    assert [[word.text for word in line.words] for line in cut_lines(*reader, lines)] == [["Dear", "Sir"]]


def test_cutting_leaves_the_reader_in_the_mode_it_was_in(reader: tuple[HybridReader, Labels]) -> None:
    reader[0].train()
    cut_lines(*reader, [])
    assert reader[0].training
