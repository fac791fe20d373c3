"""How far a reading can be trusted."""

from __future__ import annotations

from math import log, nan

import pytest

from core.transcript import Flag
from worker.confidence import confidence_of, flags_of, words_of


@pytest.mark.parametrize(
    ("probabilities", "confidence"),
    [
        ([0.5], 0.5),
        ([0.9, 0.4], 0.6),  # sqrt(0.36)
        ([1.0, 1.0, 0.125], 0.5),  # the third root of 1/8
    ],
)
def test_confidence_is_the_geometric_mean(probabilities: list[float], confidence: float) -> None:
    assert confidence_of([log(p) for p in probabilities]) == pytest.approx(confidence)


def test_the_confidence_of_nothing_is_unknown() -> None:
    assert confidence_of([]) is None


def test_a_confidence_that_is_no_number_is_unknown_and_low() -> None:
    assert confidence_of([log(0.9), nan]) is None
    assert flags_of("a", None, least_confidence=0.5, truncated=False) == {Flag.LOW_CONFIDENCE}


def test_each_word_has_the_confidence_of_its_own_tokens() -> None:
    logprobs = [log(p) for p in (0.9, 0.4, 0.1, 0.5)]
    words = words_of("né le", [1, 2, 3, 5], logprobs)
    assert [word.text for word in words] == ["né", "le"]
    assert [word.confidence for word in words] == [pytest.approx(0.6), pytest.approx(0.5)]


def test_a_token_over_two_words_counts_for_both() -> None:
    words = words_of("a b", [3], [log(0.3)])
    assert [word.confidence for word in words] == [pytest.approx(0.3), pytest.approx(0.3)]


def test_a_token_of_half_a_character_counts_for_that_character() -> None:
    words = words_of("a é", [2, 2, 3, 3], [log(p) for p in (1.0, 0.9, 0.4, 0.01)])
    assert words[1].confidence == pytest.approx(0.6)  # the end token, 0.01, is of no word


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("the cat the cat the cat the cat ", True),
        ("le le le le", False),  # "le " three times: a fourth would need its space
        ("aaaaaaaaaaaa", True),
        ("Mmmm hahaha", False),
        ("Total ................ 1000000000000", False),  # leaders and numbers are common in real lines
        ("he said that that was that", False),
    ],
)
def test_a_text_that_turns_in_a_circle_is_flagged(text: str, repeats: bool) -> None:
    flags = flags_of(text, 1.0, least_confidence=0.5, truncated=False)
    assert flags == ({Flag.REPETITION} if repeats else set())


@pytest.mark.parametrize(("confidence", "low"), [(None, True), (0.49, True), (0.5, False), (0.9, False)])
def test_a_low_or_unknown_confidence_is_flagged(confidence: float | None, low: bool) -> None:
    flags = flags_of("text", confidence, least_confidence=0.5, truncated=False)
    assert flags == ({Flag.LOW_CONFIDENCE} if low else set())


def test_a_line_cut_off_at_the_limit_is_flagged() -> None:
    assert flags_of("text", 1.0, least_confidence=0.5, truncated=True) == {Flag.TRUNCATED}
