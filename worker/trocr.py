"""TrOCR-family models in PyTorch, decoded greedily with lines that join and leave between two steps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import structlog
import torch
from torch import Tensor

from worker.recognizer import LinePixels, LineRequest, ModelCard, ModelUnavailable, Recognition, RecognizerOutOfMemory
from worker.trocr_checkpoint import Checkpoint, load_checkpoint
from worker.trocr_decoder import DecoderRows
from worker.trocr_device import choose_device, choose_dtype
from worker.trocr_hub import fetched
from worker.trocr_text import recognition_of, settled_text

_log = structlog.get_logger(__name__)

#: Rows where the caller names no number: enough to keep the device busy, few enough that a step stays short.
_ROWS = {"cpu": 16, "cuda": 64}


@dataclass
class _Reading:
    """A line in a row, and what was read of it so far."""

    key: str
    #: The most tokens that are read of it.
    limit: int
    #: How many of the likeliest tokens are kept for each place; None when nobody wants to know.
    top_logprobs: int | None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    #: The likeliest tokens of each place, with their logarithms of probability.
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)


class TrocrRecognizer:
    """Reads lines as transformers' `generate(num_beams=1, do_sample=False)` would, token by token.

    Args:
        checkpoint: The model with what belongs to it; it is not changed.
        rows: Lines at once; 0 lets the device decide.
        max_new_tokens: The most tokens of a line; None is the checkpoint's own limit.

    Raises:
        RecognizerOutOfMemory: The device has no room for so many rows.
    """

    def __init__(self, checkpoint: Checkpoint, *, rows: int = 0, max_new_tokens: int | None = None) -> None:
        #: The model with what belongs to it.
        self.checkpoint = checkpoint
        self._rows = rows or _ROWS[checkpoint.model.device.type]
        self._max_new_tokens = min(max_new_tokens or checkpoint.max_new_tokens, checkpoint.positions)
        # On a CPU, how bfloat16 products are rounded depends on how many lines are encoded together: of 210 lines 3 %
        # read differently in fours than alone. One at a time, none did, and the encoder is not slower.
        exact = checkpoint.model.device.type == "cuda" or checkpoint.model.encoder.dtype == torch.float32
        self._encoded_at_once = self._rows if exact else 1
        self._in_rows: list[_Reading] = []
        with torch.inference_mode(), _memory_named():
            # a blank line tells the shape of what the encoder gives, and warms the device up
            blank = self._encoded([np.full((64, 512, 3), 255, np.uint8)])
            self._decoder = DecoderRows(
                checkpoint.decoder,
                rows=self._rows,
                positions=self._max_new_tokens,
                source_length=blank.shape[1],
                start_token=checkpoint.start_token,
            )

    @property
    def card(self) -> ModelCard:
        """Which model this is and where it runs."""
        return self.checkpoint.card

    @property
    def rows(self) -> int:
        """The most lines that can be in rows at once."""
        return self._rows

    @property
    def max_aspect_ratio(self) -> float:
        """The width over height up to which a line is read well."""
        return self.checkpoint.max_aspect_ratio

    def admit(self, lines: Mapping[str, LineRequest]) -> None:
        """Encode lines together and give each a row."""
        with torch.inference_mode(), _memory_named():
            self._decoder.join(self._encoded([request.pixels for request in lines.values()]))
        self._in_rows += [_Reading(key, self._limit(request), request.top_logprobs) for key, request in lines.items()]

    def step(self) -> Mapping[str, Recognition]:
        """Read one more token of every line."""
        if not self._in_rows:
            return {}
        try:
            with torch.inference_mode(), _memory_named():
                self._read_tokens()
        except Exception:
            self._in_rows.clear()
            self._decoder.clear()
            raise
        return self._take_ended()

    def settled(self, keys: Collection[str]) -> Mapping[str, str]:
        """How the texts of these lines begin."""
        return {
            reading.key: settled_text(reading.tokens, self.checkpoint.tokenizer)
            for reading in self._in_rows
            if reading.key in keys
        }

    def drop(self, keys: Collection[str]) -> None:
        """Free the rows of these lines."""
        with torch.inference_mode():
            for row in reversed([row for row, reading in enumerate(self._in_rows) if reading.key in keys]):
                self._leave(row)

    def _limit(self, request: LineRequest) -> int:
        return min(request.max_new_tokens or self._max_new_tokens, self._max_new_tokens)

    def _encoded(self, lines: list[LinePixels]) -> Tensor:
        """The encoder's output for each line, (lines, source_length, width)."""
        model = self.checkpoint.model
        groups = torch.split(self.checkpoint.preprocessed(lines), self._encoded_at_once)
        encoded = torch.cat([model.encoder(pixel_values=group).last_hidden_state for group in groups])
        encoded = encoded.to(self.checkpoint.decoder.dtype)
        projection = getattr(model, "enc_to_dec_proj", None)
        return encoded if projection is None else projection(encoded)

    def _read_tokens(self) -> None:
        scores = self._decoder.scores()
        if self.checkpoint.rules:
            scores = torch.cat([self._ruled(row, reading, scores) for row, reading in enumerate(self._in_rows)])
        best, tokens = scores.max(dim=-1)
        logprobs = (best - scores.logsumexp(dim=-1)).tolist()
        self._keep_alternatives(scores)
        self._decoder.feed(tokens)
        for reading, token, logprob in zip(self._in_rows, tokens.tolist(), logprobs, strict=True):
            reading.tokens.append(token)
            reading.logprobs.append(logprob)

    def _keep_alternatives(self, scores: Tensor) -> None:
        for row, reading in enumerate(self._in_rows):
            if reading.top_logprobs is not None:
                likeliest = scores[row].log_softmax(dim=-1).topk(reading.top_logprobs)
                reading.alternatives.append(
                    list(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))
                )

    def _ruled(self, row: int, reading: _Reading, scores: Tensor) -> Tensor:
        fed = torch.tensor([[self.checkpoint.start_token, *reading.tokens]], device=scores.device)
        return self.checkpoint.rules(fed, scores[row : row + 1])  # type: ignore[arg-type]  # no tensor is a LongTensor

    def _take_ended(self) -> dict[str, Recognition]:
        ended = {}
        for row in reversed(range(len(self._in_rows))):
            reading = self._in_rows[row]
            stopped = reading.tokens[-1] in self.checkpoint.end_tokens
            if stopped or len(reading.tokens) == reading.limit:
                ended[reading.key] = recognition_of(
                    reading.tokens,
                    reading.logprobs,
                    self.checkpoint.tokenizer,
                    truncated=not stopped,
                    alternatives=None if reading.top_logprobs is None else reading.alternatives,
                )
                with torch.inference_mode():
                    self._leave(row)
        return ended

    def _leave(self, row: int) -> None:
        self._decoder.leave(row)
        self._in_rows[row] = self._in_rows[-1]
        self._in_rows.pop()


def load_trocr(
    source: Path | str,
    *,
    name: str,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    rows: int = 0,
    max_new_tokens: int | None = None,
) -> TrocrRecognizer:
    """Load a TrOCR-family model and make it ready to read.

    Args:
        source: A folder; or, as a string, the id of a hub repository, at a revision where `@revision` follows it.
        name: What jobs call it.
        device: `auto` is CUDA where there is one.
        dtype: `auto` is bfloat16 where the device multiplies in it, else float32.
        rows: Lines at once; 0 lets the device decide.
        max_new_tokens: The most tokens of a line; None is the checkpoint's own limit.

    Raises:
        ModelUnavailable: It is not there, cannot be fetched, is not of the TrOCR family, or does not fit on the device.
    """
    chosen = choose_device(device)
    number_format = choose_dtype(dtype, chosen)
    _log.info(
        "device chosen",
        model=name,
        device=str(chosen),
        wanted=device,
        dtype=str(number_format),
        cuda_devices=torch.cuda.device_count(),
        threads=torch.get_num_threads(),
    )
    folder, commit = _located(source)
    checkpoint = load_checkpoint(folder, name=name, revision=commit, device=chosen, dtype=number_format)
    try:
        return TrocrRecognizer(checkpoint, rows=rows, max_new_tokens=max_new_tokens)
    except RecognizerOutOfMemory as error:
        raise ModelUnavailable(
            f"{chosen} has not enough memory for {name}; set INKQUEUE_ROWS lower: {error}"
        ) from error


def _located(source: Path | str) -> tuple[Path, str | None]:
    """The checkpoint's folder, and its commit where it comes from the hub."""
    if isinstance(source, Path):
        return source, None
    repository, _, revision = source.partition("@")
    folder = fetched(repository, revision or None)
    return folder, folder.name


@contextmanager
def _memory_named() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise RecognizerOutOfMemory(str(error)) from error
    except RuntimeError as error:
        # the CPU's allocator has no class of its own for it
        if "can't allocate memory" in str(error):
            raise RecognizerOutOfMemory(str(error)) from error
        raise
