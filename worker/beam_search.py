"""Beam search for one line: which beginnings of its text are followed, and which whole text is the best.

The choices are those of `generate(num_beams=n, do_sample=False)` for the line alone. Scores are summed in float32 as
there, since another precision would decide close calls otherwise.

Source:
    `GenerationMixin._beam_search` of transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

#: Stands for minus infinity, as in the source.
_NEVER = -1.0e9


@dataclass(frozen=True, kw_only=True)
class BeamRules:
    """What a checkpoint says about beam search."""

    #: Scores are divided by the length to this power: above 0, longer texts are preferred.
    length_penalty: float
    #: True: end with as many whole texts as there are beams; False: when nothing that is followed looks better than
    #: these; "never": when nothing can become better.
    early_stopping: bool | Literal["never"]


@dataclass(frozen=True, kw_only=True)
class Beam:
    """A text, or how one begins."""

    tokens: tuple[int, ...] = ()
    #: Natural-log probability of each token.
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _WholeText:
    beam: Beam
    #: Sum of the logarithms, divided by the length's power.
    score: float


class BeamSearch:
    """Follows the best beginnings of one line's text.

    Args:
        beams: How many, at least 2.
        limit: The most tokens.
        end_tokens: Any of these ends a text.
        rules: The checkpoint's.
    """

    def __init__(self, *, beams: int, limit: int, end_tokens: Collection[int], rules: BeamRules) -> None:
        self._limit = limit
        self._ends = frozenset(end_tokens)
        self._rules = rules
        #: What is followed, the best first. Before the first token all are alike, so that only the first counts.
        self.followed: list[Beam] = [Beam()] * beams
        self._scores = torch.tensor([0.0] + [_NEVER] * (beams - 1))
        self._whole: list[_WholeText] = []
        self._can_improve = True

    def advance(self, logprobs: Tensor) -> list[int]:
        """Follow the best beginnings by one token.

        Args:
            logprobs: What may come next in each of `followed`, (beams, vocabulary) float32.

        Returns:
            For each of `followed` as it is now, which one of `followed` before it continues.
        """
        beams, vocabulary = logprobs.shape
        # So many that `beams` unfinished ones are among them even when all could end in every way.
        candidates = max(2, 1 + len(self._ends)) * beams
        sums, places = (logprobs + self._scores.to(logprobs.device)[:, None]).flatten().topk(candidates)
        sums, own = sums.cpu(), logprobs.flatten()[places].tolist()
        parents, tokens = zip(*(divmod(place, vocabulary) for place in places.tolist()), strict=True)
        grown = [
            Beam(tokens=(*before.tokens, token), logprobs=(*before.logprobs, logprob))
            for before, token, logprob in zip((self.followed[parent] for parent in parents), tokens, own, strict=True)
        ]
        length = len(grown[0].tokens)
        ended = [token in self._ends or length == self._limit for token in tokens]
        self._keep_whole(grown[:beams], sums / length**self._rules.length_penalty, ended)
        running = sums + torch.tensor(ended) * _NEVER
        chosen = running.topk(beams).indices.tolist()
        self.followed = [grown[index] for index in chosen]
        self._scores = running[chosen]
        self._can_improve = self._can_improve and self._may_improve(length)
        return [parents[index] for index in chosen]

    @property
    def ended(self) -> bool:
        """Whether the best text is known."""
        return len(self.followed[0].tokens) == self._limit or self._is_enough() or not self._can_improve

    @property
    def best(self) -> Beam:
        """The best whole text; there is one when the search has ended."""
        return self._whole[0].beam

    def _keep_whole(self, grown: Sequence[Beam], scores: Tensor, ended: Sequence[bool]) -> None:
        if self._is_enough() or not self._can_improve:
            return
        new = zip(grown, scores.tolist(), ended, strict=False)
        self._whole += [_WholeText(beam=beam, score=score) for beam, score, is_whole in new if is_whole]
        self._whole = sorted(self._whole, key=lambda text: text.score, reverse=True)[: len(self.followed)]

    def _is_full(self) -> bool:
        return len(self._whole) == len(self.followed)

    def _is_enough(self) -> bool:
        return self._rules.early_stopping is True and self._is_full()

    def _may_improve(self, length: int) -> bool:
        if not self._is_full():
            return True
        hopeful = self._rules.early_stopping == "never" and self._rules.length_penalty > 0.0
        best_possible = self._scores[0] / (self._limit if hopeful else length) ** self._rules.length_penalty
        return float(best_possible) > self._whole[-1].score
