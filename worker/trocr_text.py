"""From token ids to text, words and flags."""

from __future__ import annotations

from collections.abc import Sequence

from core.transcript import Alternative, Token
from worker.confidence import confidence_of, flags_of, pieces_of, words_of
from worker.recognizer import Recognition
from worker.trocr_token_texts import NO_CHARACTER, TokenTexts, agreement

#: Below it a reading is flagged. No calibration fits all checkpoints; at this mean probability one token in three is
#: unlikely to be right, which nobody would call a clear line.
_LEAST_CONFIDENCE = 0.7


def recognition_of(
    tokens: Sequence[int],
    token_logprobs: Sequence[float],
    texts: TokenTexts,
    *,
    truncated: bool,
    alternatives: Sequence[Sequence[tuple[int, float]]] | None = None,
) -> Recognition:
    """What a decoded row says.

    Args:
        tokens: As generated, with the end token where there is one.
        token_logprobs: Natural-log probability of each.
        texts: By the checkpoint's tokenizer.
        truncated: Whether the row ended without an end token.
        alternatives: The likeliest tokens in the place of each, with their natural-log probabilities; None when the
            pieces of the text are not wanted.
    """
    text, ends = texts.growth_of(tokens)
    confidence = confidence_of(token_logprobs)
    pieces: tuple[Token, ...] | None = None
    if alternatives is not None:
        named = [
            [Alternative(text=texts.text_of([token]), logprob=logprob) for token, logprob in place]
            for place in alternatives
        ]
        pieces = pieces_of(text, ends, token_logprobs, named)[: len(tokens) if truncated else -1]
    return Recognition(
        text=text.strip(),
        confidence=confidence,
        words=words_of(text, ends, token_logprobs),
        tokens=tuple(tokens),
        token_logprobs=tuple(token_logprobs),
        flags=flags_of(text, confidence, least_confidence=_LEAST_CONFIDENCE, truncated=truncated),
        pieces=pieces,
    )


def settled_text(tokens: Sequence[int], texts: TokenTexts) -> str:
    """How the text of a row begins, whatever tokens follow those that it has."""
    before, now = texts.text_of(tokens[:-1]), texts.text_of(tokens)
    settled = now[: agreement(before, now)]
    if texts.are_tidied:
        # such a tokenizer joins "do n't" once it is whole
        settled = settled.rpartition(" ")[0]
    # what a character of three bytes or more reads as while its last byte is missing
    return settled.rstrip(NO_CHARACTER).strip()
