"""A ViT or DeiT compiled by OpenVINO: where a CPU multiplies in bfloat16, it takes two thirds of PyTorch's time.

OpenVINO is the extra `openvino`; without it, and in float32, where it is slower, PyTorch encodes.
"""

from __future__ import annotations

import threading
import warnings
from importlib.util import find_spec

import structlog
import torch
from torch import Tensor, nn
from transformers import DeiTModel, ViTModel

_log = structlog.get_logger(__name__)


def is_faster_here() -> bool:
    """Whether OpenVINO is installed and multiplies in bfloat16 on this CPU."""
    if find_spec("openvino") is None:
        _log.info("PyTorch encodes; on CPUs like this one OpenVINO takes a third less time", install="openvino")
        return False
    from openvino import Core

    return "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenvinoEncoder:
    """Computes what `encoder(pixel_values=...).last_hidden_state` is, for a picture at a time; from any threads.

    Args:
        encoder: In evaluation mode, on the CPU; its weights are copied.
        cores: How many pictures are encoded at once, each on one core.
    """

    def __init__(self, encoder: ViTModel | DeiTModel, *, cores: int) -> None:
        # It asks the CPU for its instructions as it is imported.
        from openvino import Core, convert_model

        height, width = _pair(encoder.config.image_size)
        picture = torch.zeros(1, encoder.config.num_channels, height, width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the checks of a picture's size become constants
            model = convert_model(_LastHiddenState(encoder), example_input=picture, input=list(picture.shape))
        # Pinned, the threads of several workers would share some cores and leave others.
        wishes = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "ENABLE_CPU_PINNING": False}
        self._compiled = Core().compile_model(model, "CPU", wishes)
        #: What each thread asks with.
        self._of_thread = threading.local()

    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Encode a picture, (1, 3, H, W); gives (1, 1 or 2 + patches, width) float32."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        (states,) = self._of_thread.request.infer([pixel_values.float().numpy()]).values()
        # the request's own memory, which its next picture overwrites
        return torch.from_numpy(states.copy())


class _LastHiddenState(nn.Module):
    """An encoder with float32 going in and out, whatever it computes in."""

    def __init__(self, encoder: ViTModel | DeiTModel) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, pixel_values: Tensor) -> Tensor:
        states: Tensor = self._encoder(pixel_values=pixel_values.to(self._encoder.dtype)).last_hidden_state
        return states.float()


def _pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
