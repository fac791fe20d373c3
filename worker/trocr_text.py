"""From token ids to text, words and flags."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from core.transcript import Alternative, Token
from worker.confidence import confidence_of, flags_of, pieces_of, words_of
from worker.recognizer import Recognition

#: Below it a reading is flagged. No calibration fits all checkpoints; at this mean probability one token in three is
#: unlikely to be right, which nobody would call a clear line.
_LEAST_CONFIDENCE = 0.7


def recognition_of(
    tokens: Sequence[int],
    token_logprobs: Sequence[float],
    tokenizer: PreTrainedTokenizerBase,
    *,
    truncated: bool,
    alternatives: Sequence[Sequence[tuple[int, float]]] | None = None,
) -> Recognition:
    """What a decoded row says.

    Args:
        tokens: As generated, with the end token where there is one.
        token_logprobs: Natural-log probability of each.
        tokenizer: The checkpoint's own.
        truncated: Whether the row ended without an end token.
        alternatives: The likeliest tokens in the place of each, with their natural-log probabilities; None when the
            pieces of the text are not wanted.
    """
    readings = [_decoded(tokens[:count], tokenizer) for count in range(1, len(tokens) + 1)]
    text = readings[-1]
    # How a token reads can depend on its successors (half characters, spaces before punctuation that are tidied away),
    # so what is settled after each token is what the text so far and the whole text agree on.
    ends = [_agreement(reading, text) for reading in readings]
    confidence = confidence_of(token_logprobs)
    pieces: tuple[Token, ...] | None = None
    if alternatives is not None:
        named = [
            [Alternative(text=_decoded([token], tokenizer), logprob=logprob) for token, logprob in place]
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


def settled_text(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """How the text of a row begins, whatever tokens follow those that it has."""
    before, now = _decoded(tokens[:-1], tokenizer), _decoded(tokens, tokenizer)
    settled = now[: _agreement(before, now)]
    if tokenizer.clean_up_tokenization_spaces:
        # such a tokenizer joins "do n't" once it is whole
        settled = settled.rpartition(" ")[0]
    return settled.strip()


def _agreement(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _decoded(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    text = tokenizer.decode(list(tokens), skip_special_tokens=True)
    assert isinstance(text, str)  # a list comes only for a batch
    return text
