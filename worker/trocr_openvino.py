"""What OpenVINO computes of a TrOCR model, where it is faster than PyTorch: on a CPU that multiplies in bfloat16.

There it encodes in two thirds of the time, and multiplies by a long vocabulary in less than half. In float32 it encodes
more slowly than PyTorch. It is the extra `openvino`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

import structlog
import torch
from torch import Tensor, nn

_log = structlog.get_logger(__name__)


def is_faster_for(model: Any) -> bool:
    """Whether OpenVINO is installed and multiplies in bfloat16 on this CPU, and the model is encoded there in that.

    Args:
        model: A `VisionEncoderDecoderModel`.
    """
    encoder = model.encoder
    if encoder.device.type != "cpu" or encoder.dtype != torch.bfloat16:
        return False
    if find_spec("openvino") is None:
        _log.info("PyTorch computes alone; with OpenVINO it takes a third less time", install="openvino")
        return False
    # It asks the CPU for its instructions as it is imported.
    from openvino import Core

    return "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class CompiledModule:
    """Computes what a module does; from any threads.

    Args:
        module: In evaluation mode, on the CPU; its weights are copied.
        shape: Of its one argument, float32; -1 is a length that differs.
        cores: How many cores it may use.
        at_once: How many threads may call it at once, among whom the cores are shared.
        number_format: What it multiplies in; None is bfloat16 where the CPU does.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: Sequence[int],
        *,
        cores: int,
        at_once: int = 1,
        number_format: Literal["f32"] | None = None,
    ) -> None:
        from openvino import Core, convert_model

        example = torch.zeros([max(length, 1) for length in shape])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a module's checks of its argument become constants
            model = convert_model(_FromFloat32(module), example_input=example, input=list(shape))
        wishes: dict[str, Any] = {
            "NUM_STREAMS": at_once,
            "INFERENCE_NUM_THREADS": cores,
            # Pinned, the threads of several workers would share some cores and leave others.
            "ENABLE_CPU_PINNING": False,
        }
        if number_format:
            wishes["INFERENCE_PRECISION_HINT"] = number_format
        self._compiled = Core().compile_model(model, "CPU", wishes)
        #: What each thread asks with.
        self._of_thread = threading.local()

    def __call__(self, argument: Tensor) -> tuple[Tensor, ...]:
        """Compute what the module gives, one tensor or several; float32, and valid until this thread's next call."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        # Copied in and out, the keys and values of two lines would take twice as long as they take to compute.
        results = self._of_thread.request.infer([argument.float().numpy()], share_inputs=True, share_outputs=True)
        return tuple(torch.from_numpy(result) for result in results.values())


class _FromFloat32(nn.Module):
    """A module with float32 going in and out, whatever its weights are in."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        self._dtype = next(module.parameters()).dtype

    def forward(self, argument: Tensor) -> tuple[Tensor, ...]:
        results = self._module(argument.to(self._dtype))
        return tuple(result.float() for result in (results if isinstance(results, tuple) else (results,)))
