"""From pixels to what the decoder looks at: the encoder of a TrOCR model, for lines that come together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DeiTModel, ViTModel

from worker.recognizer import GroupSize, LinePixels
from worker.trocr_ahead import EncodedAhead
from worker.trocr_checkpoint import Checkpoint
from worker.trocr_graphs import FixedShapes, powers_of_two
from worker.trocr_openvino import ConvertedModule
from worker.trocr_pixels import DevicePixels
from worker.trocr_vit import VitEncoder

#: Weights from which on a CPU encodes lines ahead, beside the steps. With the 22 million of the trocr-small shape a
#: line took 126 instead of 138 ms of two Zen 4 cores. With the bundled model's 3 million it took 12.7 instead of 12.9,
#: and more of the cores.
_FEWEST_WEIGHTS_AHEAD = 10_000_000
#: So few lines do not fill a GPU; its time goes into starting kernels.
_LEAST_ON_CUDA = 4


class CpuEncoder:
    """Encodes each line by itself, and as many at once as there are cores, each on one.

    On its own a line takes the same products whatever its company, so that its text does not depend on it: in bfloat16,
    3 % of lines read differently in fours than alone. And cores that do not wait for each other after every product get
    more done: 248 instead of 304 ms a line of trocr-small on two idle AVX2 cores, 271 instead of 495 on busy ones.

    Args:
        checkpoint: Its model is on the CPU.
        rows: For how many lines there may be rows.
    """

    def __init__(self, checkpoint: Checkpoint, *, rows: int) -> None:
        cores = torch.get_num_threads()
        encoder: Any = checkpoint.model.encoder
        if checkpoint.in_openvino:
            picture = (1, encoder.config.num_channels, *checkpoint.picture_size)
            converted = ConvertedModule(_LastHiddenState(encoder), picture)
            together = _in_openvino(converted, cores=cores, at_once=cores)
            alone = _in_openvino(converted, cores=cores, at_once=1) if cores > 1 else together
        else:
            together = alone = _in_pytorch(encoder)
        #: For a line that has all cores: PyTorch divides it by itself, OpenVINO if it is compiled for that.
        self._encode_alone = partial(_encoded, checkpoint, _States(checkpoint, alone))
        #: How many lines are best encoded together: as many as there are cores.
        self.group_size = GroupSize(least=cores, most=cores)
        pool = ThreadPoolExecutor(cores, thread_name_prefix="encoder", initializer=_use_one_core)
        # The number is also what threads that PyTorch has not seen begin with, as the device's thread will: so all of
        # these start now, and the number is put back.
        all_started = Barrier(cores)
        list(pool.map(lambda _: all_started.wait(), range(cores)))
        torch.set_num_threads(cores)
        encode = partial(_encoded, checkpoint, _States(checkpoint, together))
        # Ahead are a group that is ready when rows are free, and one under way.
        self._one_by_one = EncodedAhead(encode, pool, most=min(2 * cores, rows))
        is_worth_it = cores > 1 and encoder.num_parameters() >= _FEWEST_WEIGHTS_AHEAD
        #: What encodes lines before they are admitted, if that gains anything.
        self.ahead = self._one_by_one if is_worth_it else None

    def encoded(self, lines: Sequence[LinePixels]) -> Tensor:
        """The encoder's output for each line, (lines, source_length, width) in the decoder's dtype."""
        if len(lines) == 1 and not self._one_by_one.has_begun(lines[0]):
            self._one_by_one.postpone()
            return self._encode_alone(lines[0])
        return torch.cat(self._one_by_one.encoded(lines))


class CudaEncoder:
    """Encodes lines together, in a few fixed sizes of groups.

    Args:
        checkpoint: Its model is on a CUDA device. To be made in `torch.inference_mode`.
        most_lines: The most lines of a group.
    """

    def __init__(self, checkpoint: Checkpoint, *, most_lines: int) -> None:
        self._checkpoint = checkpoint
        self._states = _States(checkpoint, _in_pytorch(checkpoint.model.encoder))
        #: Nothing is encoded before it is admitted: steps leave no part of a GPU to it.
        self.ahead = None
        #: How many lines are best encoded together: a few take as long as one.
        self.group_size = GroupSize(least=min(_LEAST_ON_CUDA, most_lines), most=most_lines)
        self._on_device = DevicePixels.of(checkpoint)
        device = checkpoint.model.device
        blank = checkpoint.preprocessed([torch.full((64, 512, 3), 255, dtype=torch.uint8).numpy()])
        self._pixel_values = blank.repeat(most_lines, 1, 1, 1)
        self._shapes = FixedShapes(self._first_encoded, sizes=(powers_of_two(1, most_lines),), device=device)

    def encoded(self, lines: Sequence[LinePixels]) -> Tensor:
        """The encoder's output for each line, (lines, source_length, width); valid until the next call."""
        prepare = self._checkpoint.preprocessed if self._on_device is None else self._on_device.preprocessed
        self._pixel_values[: len(lines)] = prepare(lines)
        return self._shapes(len(lines))[: len(lines)]

    def _first_encoded(self, count: int) -> Tensor:
        return self._states(self._pixel_values[:count])


class _States:
    """What a checkpoint's decoder looks at, for pictures that are ready.

    Args:
        checkpoint: Whose decoder looks.
        encode: Its encoder, from pictures to the last layer's output.
    """

    def __init__(self, checkpoint: Checkpoint, encode: Callable[[Tensor], Tensor]) -> None:
        model: Any = checkpoint.model
        self._encode = encode
        self._dtype = checkpoint.decoder.dtype
        self._projection = getattr(model, "enc_to_dec_proj", None)

    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Encode pictures, (lines, 3, H, W); gives (lines, source_length, width) in the decoder's dtype."""
        states = self._encode(pixel_values).to(self._dtype)
        return states if self._projection is None else self._projection(states)


def _encoded(checkpoint: Checkpoint, states: _States, line: LinePixels) -> Tensor:
    with torch.inference_mode():
        return states(checkpoint.preprocessed([line]))


def _use_one_core() -> None:
    # What is set before the first look at it is forgotten: a thread's first work would take PyTorch's own number.
    torch.get_num_threads()
    torch.set_num_threads(1)


def _in_pytorch(encoder: nn.Module) -> Callable[[Tensor], Tensor]:
    return VitEncoder(encoder) if isinstance(encoder, ViTModel | DeiTModel) else _LastHiddenState(encoder)


def _in_openvino(converted: ConvertedModule, *, cores: int, at_once: int) -> Callable[[Tensor], Tensor]:
    compiled = converted.compiled(cores=cores, at_once=at_once)
    return lambda pixel_values: compiled(pixel_values)[0].clone()


class _LastHiddenState(nn.Module):
    """An encoder that gives one thing alone."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, pixel_values: Tensor) -> Tensor:
        states: Tensor = self._encoder(pixel_values=pixel_values).last_hidden_state
        return states
