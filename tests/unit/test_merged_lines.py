from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.transcript import Flag, Token
from worker.confidence import confidence_of
from worker.line_parts import Part
from worker.merged_lines import PartReading, merged
from worker.recognizer import Recognition

END = 2
SURE, UNSURE = log(0.9), log(0.5)


def reading(
    tokens: Sequence[str],
    *,
    shared_left: float = 0.0,
    shared_right: float = 0.0,
    logprob: float = SURE,
    flags: frozenset[Flag] = frozenset(),
) -> PartReading:
    """A part that reads as these tokens and an end token, each as probable as the others."""
    pieces = tuple(Token(text=token, logprob=logprob) for token in tokens)
    logprobs = (logprob,) * (len(pieces) + 1)
    return PartReading(
        part=Part(left=0, right=1, shared_left=shared_left, shared_right=shared_right),
        recognition=Recognition(
            text="".join(tokens),
            confidence=confidence_of(logprobs),
            words=(),
            tokens=(*(len(token) + 10 for token in tokens), END),
            token_logprobs=logprobs,
            flags=flags,
            pieces=pieces,
        ),
    )


def pair(left: str, right: str, shared: int) -> list[PartReading]:
    """Two parts that read as these characters and have about so many in common."""
    return [
        reading(left, shared_right=shared / max(1, len(left))),
        reading(right, shared_left=shared / max(1, len(right)), logprob=UNSURE),
    ]


def some_texts(count: int) -> list[str]:
    """Texts of up to 24 characters, few of them different, without spaces around them or next to each other."""
    random = Random(5)
    written = ("".join(random.choices("abé '", k=random.randint(1, 24))) for _ in range(2 * count))
    return [text for text in (" ".join(text.split()) for text in written) if text][:count]


# to draw whole texts is quicker than to draw their characters
texts = st.sampled_from(some_texts(300))
beside = st.builds("".join, st.tuples(st.sampled_from(["", " "]), texts, st.sampled_from(["", " "]))) | st.just("")


@given(first=texts | texts.map("{} ".format), others=st.lists(st.tuples(texts, beside), max_size=3))
def test_exact_readings_of_the_parts_of_a_text_give_the_text(first: str, others: list[tuple[str, str]]) -> None:
    # what a model reads neither begins nor ends with a space, and never lies in three parts at once
    shared = ["", *(text for text, _ in others), ""]
    own = [first, *(text for _, text in others)]
    own[-1] = own[-1].rstrip()
    parts = [before + text + after for before, text, after in zip(shared, own, shared[1:], strict=False)]
    text = "".join(before + text for before, text in zip(shared, own, strict=False))
    readings = [
        reading(part, shared_left=len(before) / len(part), shared_right=len(after) / len(part))
        for part, before, after in zip(parts, shared, shared[1:], strict=False)
    ]
    recognition = merged(readings, max_new_tokens=None)
    assert recognition.text == text
    assert [word.text for word in recognition.words] == text.split()
    assert recognition.tokens == (*[11] * len(text), END)


@given(st.lists(st.tuples(texts | st.just(""), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_whatever_was_read_text_words_tokens_and_pieces_agree(parts: list[tuple[str, float, float]]) -> None:
    recognition = merged(
        [reading(text, shared_left=before, shared_right=after) for text, before, after in parts], max_new_tokens=None
    )
    assert recognition.pieces is not None
    assert "".join(piece.text for piece in recognition.pieces) == recognition.text
    assert [word.text for word in recognition.words] == recognition.text.split()
    assert len(recognition.tokens) == len(recognition.token_logprobs) == len(recognition.pieces) + 1
    assert recognition.confidence == confidence_of(recognition.token_logprobs)


@pytest.mark.parametrize(
    ("left", "right", "shared", "whole"),
    [
        # letters cut in halves at the ends are read right on the other side
        ("né le 2 juin 1961 à Dubl", "m 1961 à Dublin en Irlande.", 10, "né le 2 juin 1961 à Dublin en Irlande."),
        ("actrice et chantense", "ef chanteuse française", 10, "actrice et chanteuse française"),
        # fewer characters in common than the ink lets expect, and more
        ("sorti en 1925.", "en 1925. Il est", 12, "sorti en 1925. Il est"),
        ("sorti en 1925.", "en 1925. Il est", 5, "sorti en 1925. Il est"),
        # nothing in common
        ("sorti en 1925.", "Klub", 0, "sorti en 1925. Klub"),
        ("", "Klub", 3, "Klub"),
        ("Klub", "", 3, "Klub"),
    ],
)
def test_readings_that_differ_are_joined_at_what_they_have_in_common(
    left: str, right: str, shared: int, whole: str
) -> None:
    assert merged(pair(left, right, shared), max_new_tokens=None).text == whole


def test_each_word_keeps_the_confidence_with_which_it_was_read() -> None:
    recognition = merged(pair("sorti en 1925", "1925 à Paris", 4), max_new_tokens=None)
    words = {word.text: word.confidence for word in recognition.words}
    assert words == pytest.approx({"sorti": 0.9, "en": 0.9, "1925": (0.9**2 * 0.5**2) ** 0.25, "à": 0.5, "Paris": 0.5})
    assert recognition.confidence == pytest.approx(exp((11 * SURE + 11 * UNSURE) / 22))


def test_no_token_is_cut() -> None:
    left = reading(["les ", "chant", "euses ", "de"], shared_right=0.5)
    right = reading(["ch", "anteuses ", "de ", "Paris"], shared_left=0.6)
    recognition = merged([left, right], max_new_tokens=None)
    assert recognition.text == "les chanteuses de Paris"
    assert recognition.pieces is not None
    assert {piece.text for piece in recognition.pieces} <= {
        "les ",
        "chant",
        "euses ",
        "ch",
        "anteuses ",
        "de ",
        "Paris",
    }


def test_the_whole_is_flagged_as_its_parts_are_and_as_long() -> None:
    flagged = reading("a b", flags=frozenset({Flag.LOW_CONFIDENCE}))
    assert merged([flagged, reading("c")], max_new_tokens=None).flags == {Flag.LOW_CONFIDENCE, Flag.LONG_LINE}


def test_a_limit_of_tokens_holds_for_the_whole() -> None:
    recognition = merged(pair("sorti en 1925", "1925 à Paris", 4), max_new_tokens=12)
    assert recognition.text == "sorti en 192"
    assert len(recognition.tokens) == len(recognition.token_logprobs) == 12
    assert Flag.TRUNCATED in recognition.flags
    assert Flag.TRUNCATED not in merged(pair("a", "b", 0), max_new_tokens=12).flags
