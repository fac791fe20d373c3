"""One line in the rows of a decoder: what was read of it so far, and what it reads next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.beam_search import BeamSearch
from worker.recognizer import LineRequest, Recognition
from worker.trocr_checkpoint import Checkpoint
from worker.trocr_text import recognition_of, settled_text

#: Likely tokens of one place with their natural-log probabilities, the likeliest first.
Alternatives = Sequence[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the rows of a line feed next, where that is not the likeliest token of each."""

    tokens: Sequence[int]
    #: For each row, the number among the line's rows whose text it continues.
    parents: Sequence[int]


class Reading:
    """A line that is being read.

    Args:
        key: Its name.
        request: What is asked of its reading.
        rows: The numbers of the rows that it holds, one for each beam. They are the decoder's to change.
        checkpoint: The model.
        limit: The most tokens that the model reads in a line.
    """

    def __init__(self, key: str, request: LineRequest, *, rows: list[int], checkpoint: Checkpoint, limit: int) -> None:
        self.key = key
        self.rows = rows
        self.top_logprobs = request.top_logprobs
        self._checkpoint = checkpoint
        self._limit = min(request.max_new_tokens or limit, limit)
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._alternatives: list[Alternatives] = []
        self._search = (
            BeamSearch(
                beams=request.beams,
                limit=self._limit,
                end_tokens=checkpoint.end_tokens,
                rules=checkpoint.beam_rules,
            )
            if request.beams > 1
            else None
        )

    @property
    def is_chosen(self) -> bool:
        """Whether `choose` says what it reads, from all scores of a step; else `take` is told the likeliest token."""
        return self._search is not None or bool(self._checkpoint.rules)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to be read."""
        if self._search is not None:
            return self._search.ended
        return len(self._tokens) == self._limit or (bool(self._tokens) and self._ends_with_end(self._tokens))

    @property
    def settled(self) -> str:
        """How its text begins, whatever is read next; beams may still change all of it."""
        return "" if self._search is not None else settled_text(self._tokens, self._checkpoint.texts)

    @property
    def recognition(self) -> Recognition:
        """What was read, once it has ended."""
        tokens, logprobs = self._tokens, self._logprobs
        if self._search is not None:
            tokens, logprobs = list(self._search.best.tokens), list(self._search.best.logprobs)
        alternatives = self._alternatives or [()] * len(tokens)
        return recognition_of(
            tokens,
            logprobs,
            self._checkpoint.texts,
            truncated=not self._ends_with_end(tokens),
            alternatives=None if self.top_logprobs is None else alternatives,
        )

    def take(self, token: int, logprob: float, alternatives: Alternatives) -> None:
        """Read a token."""
        self._tokens.append(token)
        self._logprobs.append(logprob)
        if self.top_logprobs is not None:
            self._alternatives.append(alternatives)

    def choose(self, scores: Tensor) -> Choice:
        """Read a token by the checkpoint's rules, or let the beams be followed by one.

        Args:
            scores: Of the line's rows, (rows, vocabulary) float32, not normalised.
        """
        if self._search is not None:
            logprobs = self._ruled([beam.tokens for beam in self._search.followed], scores.log_softmax(dim=-1))
            parents = self._search.advance(logprobs)
            return Choice(tokens=[beam.tokens[-1] for beam in self._search.followed], parents=parents)
        logprobs = self._ruled([self._tokens], scores).log_softmax(dim=-1)[0]
        token = int(logprobs.argmax())
        self.take(token, float(logprobs[token]), likeliest(logprobs, self.top_logprobs or 0))
        return Choice(tokens=[token], parents=[0])

    def _ruled(self, texts: Sequence[Sequence[int]], scores: Tensor) -> Tensor:
        fed = torch.tensor([[self._checkpoint.start_token, *tokens] for tokens in texts], device=scores.device)
        return self._checkpoint.rules(fed, scores)  # type: ignore[arg-type]  # no tensor is a LongTensor

    def _ends_with_end(self, tokens: Sequence[int]) -> bool:
        return tokens[-1] in self._checkpoint.end_tokens


def likeliest(logprobs: Tensor, count: int) -> Alternatives:
    """The likeliest tokens of one place, given (vocabulary,) natural-log probabilities."""
    best = logprobs.topk(count)
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
