"""How far a reading can be trusted: the confidence of a line and of its words, and the flags that follow from it."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from core.transcript import Alternative, Flag, Token, Word

#: The same 1 to 24 characters, a letter among them, four times in a row or more: what a decoder writes when it has lost
#: the line. Rows of dots, dashes or zeros are common in real lines and do not count.
_REPEATED = re.compile(r"(.{1,24}?)\1{3,}", re.DOTALL)
#: Shorter runs ("hahaha", "Mmmm") are somebody's handwriting.
_REPEATED_CHARACTERS = 12


def confidence_of(token_logprobs: Sequence[float]) -> float | None:
    """The geometric mean of the tokens' probabilities, exp(mean of the logarithms), in [0, 1].

    None for no token, and where a probability is no number, as when a small number format overflowed.
    """
    if not token_logprobs or any(math.isnan(logprob) for logprob in token_logprobs):
        return None
    return math.exp(math.fsum(token_logprobs) / len(token_logprobs))


def words_of(text: str, token_ends: Sequence[int], token_logprobs: Sequence[float]) -> tuple[Word, ...]:
    """The words of a text, each with the geometric mean of the probabilities of the tokens that wrote it.

    Args:
        text: What the tokens say.
        token_ends: For each token, how many characters of `text` are settled after it, not decreasing. A token that
            settles none (part of a character) belongs to the character that comes next.
        token_logprobs: Natural-log probability of each token.
    """
    starts = [0, *token_ends][: len(token_ends)]
    lasts = [max(start + 1, end) for start, end in zip(starts, token_ends, strict=True)]
    words = []
    for match in re.finditer(r"\S+", text):
        own = slice(bisect_right(lasts, match.start()), bisect_left(starts, match.end()))
        words.append(Word(text=match.group(), confidence=confidence_of(token_logprobs[own])))
    return tuple(words)


def pieces_of(
    text: str,
    token_ends: Sequence[int],
    token_logprobs: Sequence[float],
    alternatives: Sequence[Sequence[Alternative]],
) -> tuple[Token, ...]:
    """What each token adds to a text without the space around it.

    Args:
        text: What the tokens say.
        token_ends: For each token, how many characters of `text` are settled after it, not decreasing.
        token_logprobs: Natural-log probability of each token.
        alternatives: The likeliest tokens in the place of each.
    """
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    ends = [min(max(end, first), last) for end in token_ends]
    return tuple(
        Token(text=text[start:end], logprob=logprob, alternatives=tuple(place))
        for start, end, logprob, place in zip([first, *ends], ends, token_logprobs, alternatives, strict=False)
    )


def flags_of(text: str, confidence: float | None, *, least_confidence: float, truncated: bool) -> frozenset[Flag]:
    """The reasons to look at a line again.

    Args:
        text: What was read.
        confidence: Of the line; unknown counts as low.
        least_confidence: Below it the model is wrong too often.
        truncated: Whether the token limit ended the line.
    """
    flags = set()
    if confidence is None or confidence < least_confidence:
        flags.add(Flag.LOW_CONFIDENCE)
    if _repeats(text):
        flags.add(Flag.REPETITION)
    if truncated:
        flags.add(Flag.TRUNCATED)
    return frozenset(flags)


def _repeats(text: str) -> bool:
    return any(
        len(match.group()) >= _REPEATED_CHARACTERS and any(character.isalpha() for character in match.group(1))
        for match in _REPEATED.finditer(text)
    )
