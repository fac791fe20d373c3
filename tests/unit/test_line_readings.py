"""The test lines of the accuracy benchmark, as rough cuts would show them."""

from dataclasses import replace

import numpy as np

from benchmarks.line_readings import TranscribedLine, roughly_cut


def _lines(count: int) -> list[TranscribedLine]:
    pixels = np.full((40, 300, 3), 230, dtype=np.uint8)
    pixels[10:30, 20:280:5] = 20
    line = TranscribedLine(pixels=pixels, text="a text", source="drawn", kind="", seen_text=False)
    return [replace(line, text=f"text {number}") for number in range(count)]


def test_rough_cuts_are_larger_and_darker_and_say_the_same() -> None:
    lines = _lines(20)
    rough = roughly_cut(lines)
    assert [line.text for line in rough] == [line.text for line in lines]
    for line in rough:
        assert line.pixels.dtype == np.uint8
        assert line.pixels.shape[0] >= 40
        assert line.pixels.shape[1] >= 300
        assert 120 <= np.percentile(line.pixels, 90) <= 230
    assert len({line.pixels.shape for line in rough}) > 10


def test_rough_cuts_are_the_same_every_time() -> None:
    first, second = roughly_cut(_lines(5)), roughly_cut(_lines(5))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))
