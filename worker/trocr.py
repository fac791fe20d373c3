"""TrOCR-family models in PyTorch, decoded with lines that join and leave between two steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import structlog
import torch

from core.hub import CheckpointUnavailable, NoRepositoryId, fetched_checkpoint
from core.reading_options import MAX_BEAMS
from worker.recognizer import (
    AheadEncoder,
    GroupSize,
    LineRequest,
    ModelCard,
    ModelUnavailable,
    Recognition,
    RecognizerOutOfMemory,
)
from worker.trocr_checkpoint import Checkpoint, load_checkpoint
from worker.trocr_decoder import DecoderRows
from worker.trocr_device import choose_device, choose_dtype
from worker.trocr_encoder import CpuEncoder, CudaEncoder
from worker.trocr_errors import errors_named
from worker.trocr_reading import Reading
from worker.trocr_steps import MadeStep

_log = structlog.get_logger(__name__)

#: Rows where the caller names no number: enough to keep the device busy, few enough that a step stays short.
_ROWS = {"cpu": 16, "cuda": 64}
#: Steps that a device makes ahead of what the host has looked at. With one, a GPU never waits for the host; rows that
#: have ended are then computed once more than needed. A CPU is the host.
_STEPS_AHEAD = {"cpu": 0, "cuda": 1}


class TrocrRecognizer:
    """Reads lines as transformers' `generate(do_sample=False)` would, token by token.

    Args:
        checkpoint: The model with what belongs to it; it is not changed.
        rows: Rows at once; 0 lets the device decide.
        max_new_tokens: The most tokens of a line; None is the checkpoint's own limit.
        steps_ahead: Steps that are begun before the last one's tokens are looked at; None lets the device decide.

    Raises:
        RecognizerOutOfMemory: The device has no room for so many rows.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        rows: int = 0,
        max_new_tokens: int | None = None,
        steps_ahead: int | None = None,
    ) -> None:
        #: The model with what belongs to it.
        self.checkpoint = checkpoint
        kind = checkpoint.model.device.type
        self._rows = rows or _ROWS[kind]
        self._steps_ahead = _STEPS_AHEAD[kind] if steps_ahead is None else steps_ahead
        self._max_new_tokens = min(max_new_tokens or checkpoint.max_new_tokens, checkpoint.positions)
        self._cores = torch.get_num_threads()
        #: Whose each row is.
        self._owners: list[Reading] = []
        #: Steps whose tokens were not looked at.
        self._made: deque[MadeStep] = deque()
        with torch.inference_mode(), errors_named():
            self._encoder = (
                CudaEncoder(checkpoint, most_lines=self._rows)
                if kind == "cuda"
                else CpuEncoder(checkpoint, rows=self._rows)
            )
            # a blank line tells the shape of what the encoder gives, and warms the device up
            blank = self._encoder.encoded([np.full((64, 512, 3), 255, np.uint8)])
            self._decoder = DecoderRows(
                checkpoint.decoder,
                # the beams of a line that is alone always find their rows
                rows=max(self._rows, MAX_BEAMS),
                positions=self._max_new_tokens,
                source_length=blank.shape[1],
                start_token=checkpoint.start_token,
                openvino=checkpoint.in_openvino,
            )

    @property
    def card(self) -> ModelCard:
        """Which model this is and where it runs."""
        return self.checkpoint.card

    @property
    def rows(self) -> int:
        """The most rows that are used at once, but for the beams of a line that is alone."""
        return self._rows

    @property
    def group_size(self) -> GroupSize:
        """How many lines are best encoded together."""
        return self._encoder.group_size

    @property
    def ahead(self) -> AheadEncoder | None:
        """What encodes lines before they are admitted, on a CPU where that gains anything."""
        return self._encoder.ahead

    @property
    def max_aspect_ratio(self) -> float:
        """The width over height up to which a line is read well."""
        return self.checkpoint.max_aspect_ratio

    def admit(self, lines: Mapping[str, LineRequest]) -> None:
        """Encode lines together and give each its rows."""
        with torch.inference_mode(), errors_named():
            # A thread that first computes while another makes a step on one core would keep to one.
            torch.set_num_threads(self._cores)
            encoded = self._encoder.encoded([request.pixels for request in lines.values()])
            self._decoder.join(encoded, [request.beams for request in lines.values()])
        for key, request in lines.items():
            first = len(self._owners)
            reading = Reading(
                key,
                request,
                rows=list(range(first, first + request.beams)),
                checkpoint=self.checkpoint,
                limit=self._max_new_tokens,
            )
            self._owners += [reading] * request.beams

    def step(self) -> Mapping[str, Recognition]:
        """Read one more token of every line."""
        if not self._owners:
            return {}
        with self._rows_lost_on_error():
            self._made.append(MadeStep(self._decoder.step(), self._owners))
            # What the host chooses must be known before the next step.
            ahead = 0 if any(reading.is_chosen for reading in self._owners) else self._steps_ahead
            while len(self._made) > ahead:
                self._look_at(self._made.popleft())
            return self._take_ended()

    def settled(self, keys: Collection[str]) -> Mapping[str, str]:
        """How the texts of these lines begin."""
        return {reading.key: reading.settled for reading in self._readings() if reading.key in keys}

    def drop(self, keys: Collection[str]) -> None:
        """Free the rows of these lines."""
        with self._rows_lost_on_error():
            for reading in self._readings():
                if reading.key in keys:
                    self._leave(reading)

    @contextmanager
    def _rows_lost_on_error(self) -> Iterator[None]:
        try:
            with torch.inference_mode(), errors_named():
                yield
        except Exception:
            self._owners.clear()
            self._made.clear()
            self._decoder.clear()
            raise

    def _readings(self) -> list[Reading]:
        return list(dict.fromkeys(self._owners))

    def _look_at(self, made: MadeStep) -> None:
        made.tell_likeliest()
        for reading in made.chosen:
            choice = reading.choose(made.scores[reading.rows])
            parents = [reading.rows[parent] for parent in choice.parents]
            self._decoder.choose(reading.rows, choice.tokens, parents)

    def _take_ended(self) -> dict[str, Recognition]:
        ended = [reading for reading in self._readings() if reading.has_ended]
        for reading in ended:
            self._leave(reading)
        return {reading.key: reading.recognition for reading in ended}

    def _leave(self, reading: Reading) -> None:
        """Free a line's rows, the last first, so that none of its own is moved into another."""
        for row in sorted(reading.rows, reverse=True):
            self._decoder.leave(row)
            last = len(self._owners) - 1
            moved = self._owners.pop()
            if row != last:
                self._owners[row] = moved
                moved.rows[moved.rows.index(last)] = row
        reading.rows.clear()


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
        source: As `find_checkpoint` takes it.
        name: What jobs call it.
        device: As `find_checkpoint` takes it.
        dtype: As `find_checkpoint` takes it.
        rows: Lines at once; 0 lets the device decide.
        max_new_tokens: The most tokens of a line; None is the checkpoint's own limit.

    Raises:
        ModelUnavailable: It is not there, cannot be fetched, is not of the TrOCR family, or does not fit on the device.
    """
    checkpoint = find_checkpoint(source, name=name, device=device, dtype=dtype)
    try:
        return TrocrRecognizer(checkpoint, rows=rows, max_new_tokens=max_new_tokens)
    except RecognizerOutOfMemory as error:
        raise ModelUnavailable(
            f"{checkpoint.card.device} has not enough memory for {name}; set INKQUEUE_ROWS lower: {error}"
        ) from error


def find_checkpoint(
    source: Path | str,
    *,
    name: str,
    device: Literal["auto", "cpu", "cuda"],
    dtype: Literal["auto", "float32", "bfloat16", "float16"],
) -> Checkpoint:
    """Load a TrOCR-family model onto a device.

    Args:
        source: A folder; or, as a string, the id of a hub repository, at a revision where `@revision` follows it.
        name: What jobs call it.
        device: `auto` is CUDA where there is one.
        dtype: `auto` is bfloat16 where the device multiplies in it, else float32.

    Raises:
        ModelUnavailable: It is not there, cannot be fetched, is not of the TrOCR family, or is larger than the memory.
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
    return load_checkpoint(folder, name=name, revision=commit, device=chosen, dtype=number_format)


def _located(source: Path | str) -> tuple[Path, str | None]:
    """The checkpoint's folder, and its commit where it comes from the hub."""
    if isinstance(source, Path):
        return source, None
    repository, _, revision = source.partition("@")
    try:
        folder = fetched_checkpoint(repository, revision or None)
    except NoRepositoryId as error:
        raise ModelUnavailable(
            f"{repository} is no folder, no bundled model, and cannot be the id of a hub repository"
        ) from error
    except CheckpointUnavailable as error:
        raise ModelUnavailable(str(error)) from error
    return folder, folder.name
