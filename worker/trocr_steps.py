"""A step that the device makes, and its tokens on their way to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.trocr_decoder import Step
from worker.trocr_reading import Reading


class MadeStep:
    """What a step read, told to the lines whose rows it computed.

    Args:
        step: What the decoder gave, on the device.
        owners: Whose each row is at that moment.
    """

    def __init__(self, step: Step, owners: Sequence[Reading]) -> None:
        self._owners = tuple(owners)
        #: The lines that choose for themselves what they read; nothing but this step may have been made since.
        self.chosen = [reading for reading in dict.fromkeys(owners) if reading.is_chosen]
        #: (rows, vocabulary) float32, valid until the decoder's next step.
        self.scores = step.scores
        self._tokens = _on_its_way(step.tokens)
        self._logprobs = _on_its_way(step.logprobs)
        self._likeliest = {
            row: tuple(_on_its_way(part) for part in step.scores[row].log_softmax(dim=-1).topk(reading.top_logprobs))
            for row, reading in enumerate(owners)
            if reading.top_logprobs is not None and not reading.is_chosen
        }
        self._arrived: torch.cuda.Event | None = None
        if step.tokens.device.type == "cuda":
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]  # it has no annotations
            self._arrived.record()

    def tell_likeliest(self) -> None:
        """Let each line that is still read, and does not choose for itself, take its likeliest token."""
        if self._arrived is not None:
            self._arrived.synchronize()
        tokens, logprobs = self._tokens.tolist(), self._logprobs.tolist()
        for row, reading in enumerate(self._owners):
            if reading.rows and not reading.is_chosen and not reading.has_ended:
                values, indices = self._likeliest.get(row, (torch.empty(0), torch.empty(0, dtype=torch.long)))
                reading.take(tokens[row], logprobs[row], list(zip(indices.tolist(), values.tolist(), strict=True)))


def _on_its_way(values: Tensor) -> Tensor:
    """A copy on the host that is complete once what was told to the device before is done."""
    if values.device.type == "cpu":
        return values
    # Into page-locked memory the copy does not hold up the host.
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
