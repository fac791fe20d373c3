"""What the accuracy benchmark says of number formats."""

import numpy as np
import pytest

from benchmarks.line_readings import Reading, TranscribedLine
from benchmarks.number_format import compared, exactness_table
from tests.fakes import FakeRecognizer

_CARD = FakeRecognizer().card


def _lines(*texts: str) -> list[TranscribedLine]:
    pixels = np.zeros((8, 8, 3), np.uint8)
    return [TranscribedLine(pixels=pixels, text=text, source="drawn", kind="", seen_text=False) for text in texts]


def _readings(*texts: str) -> list[Reading]:
    return [Reading(text=text, confidence=None) for text in texts]


def test_lines_that_a_format_reads_better_and_worse_are_counted() -> None:
    found = compared(
        _CARD,
        _lines("abcd", "abcd", "abcd", "abcd"),
        in_batch=_readings("abcd", "abxx", "abcd", "axxd"),
        in_float32=_readings("abcx", "abcd", "abcd", "xbxd"),
        alone=_readings("abcd", "abxx", "abcd", "abcd"),
    )
    assert (found.better, found.worse) == (1, 1)
    assert (found.cer, found.cer_float32) == (4 / 16, 3 / 16)
    assert found.same_alone == 3 / 4


def test_the_difference_says_how_far_chance_alone_moves_it() -> None:
    # A tenth of the lines reads one character of ten worse: the deviation of a mean of such draws.
    count = 1000
    wrong = ["abcdefghix" if index % 10 == 0 else "abcdefghij" for index in range(count)]
    right = _readings(*["abcdefghij"] * count)
    found = compared(_CARD, _lines(*["abcdefghij"] * count), in_batch=_readings(*wrong), in_float32=right, alone=right)
    assert found.cer - found.cer_float32 == pytest.approx(0.01)
    assert found.difference_deviation == pytest.approx(0.1 * np.sqrt(0.1 * 0.9 / (count - 1)))


def test_the_table_names_the_difference_in_points() -> None:
    wrong, right = _readings("abcdefghix", "abcdefghij"), _readings("abcdefghij", "abcdefghij")
    found = compared(_CARD, _lines("abcdefghij", "abcdefghij"), in_batch=wrong, in_float32=right, alone=right)
    table = exactness_table({"model": found})
    names, shown = (list(column.cells) for column in table.columns)
    cells = dict(zip(names, shown, strict=True))
    assert cells["CER more than that, points"] == "5.00 ± 5.00"
    assert cells["lines with fewer, more errors"] == "0, 1"
