"""What OpenVINO computes of a TrOCR model, where it is faster than PyTorch: on a CPU that multiplies in bfloat16.

There it encodes in 0.7 of the time, and multiplies by a long vocabulary in a third. In float32 it encodes more slowly
than PyTorch. It is the extra `openvino`.

It is given float32 modules and rounds them itself: what leads from one product to the next, but not the sums that lead
to the result. Of a bfloat16 encoder it rounds these too, and the error is twice as large (0.9 instead of 0.5 % for the
trocr-small shape).
"""

from __future__ import annotations

import platform
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import structlog
import torch
from torch import Tensor, nn
from transformers import DeiTModel, ViTModel

from worker.recognizer import ModelUnavailable
from worker.trocr_device import cpu_multiplies_bfloat16
from worker.trocr_errors import errors_named

_log = structlog.get_logger(__name__)


def openvino_computes(encoder: nn.Module, dtype: torch.dtype) -> bool:
    """Whether OpenVINO is installed, and is faster for a model on this CPU; says so where it is only not installed.

    Args:
        encoder: The model's; none but ViT's and DeiT's was tried, which all TrOCR checkpoints have that we know of.
        dtype: What it shall compute in.
    """
    is_known = isinstance(encoder, ViTModel | DeiTModel)
    is_faster = is_known and dtype == torch.bfloat16 and cpu_multiplies_bfloat16()
    if not is_faster or platform.machine() != "x86_64":
        return False
    if find_spec("openvino") is None:
        _log.info("PyTorch encodes alone, in 1.4 times the time that it takes with the extra openvino")
        return False
    return True


class ConvertedModule:
    """A module as OpenVINO knows it, to be compiled for each way of using it.

    Args:
        module: In evaluation mode, on the CPU, in float32; its weights must not change, since OpenVINO reads them
            where they lie.
        shape: Of its one argument, float32; -1 is a length that differs.

    Raises:
        RecognizerOutOfMemory: There is no room for it.
        ModelUnavailable: OpenVINO cannot compute it, or cannot be loaded.
    """

    def __init__(self, module: nn.Module, shape: Sequence[int]) -> None:
        self._module = module
        with _failures_told():
            self._model = _converted(module, shape)

    def compiled(self, *, cores: int, at_once: int = 1, number_format: Literal["f32"] | None = None) -> CompiledModule:
        """Compile it.

        Args:
            cores: How many cores it may use.
            at_once: How many calls, of as many threads, are computed at once and share the cores; more wait.
            number_format: What it multiplies in; None is bfloat16 where the CPU does.

        Raises:
            RecognizerOutOfMemory: There is no room for it.
            ModelUnavailable: OpenVINO cannot compute it.
        """
        wishes: dict[str, Any] = {
            "NUM_STREAMS": at_once,
            "INFERENCE_NUM_THREADS": cores,
            # Pinned, the threads of several workers would share some cores and leave others.
            "ENABLE_CPU_PINNING": False,
        }
        if number_format:
            wishes["INFERENCE_PRECISION_HINT"] = number_format
        with _failures_told():
            return CompiledModule(_core().compile_model(self._model, "CPU", wishes), self._module)


class CompiledModule:
    """Computes what a module does; from any threads."""

    def __init__(self, compiled: Any, module: nn.Module) -> None:
        """Compute with this `openvino.CompiledModel`, which was made of the module."""
        self._compiled = compiled
        # It reads weights of the module and does not keep them: with the module gone it gave other numbers, and NaN.
        self._module = module
        #: What each thread asks with.
        self._of_thread = threading.local()

    def __call__(self, argument: Tensor) -> tuple[Tensor, ...]:
        """Compute what the module gives, one tensor or several; float32, and valid until this thread's next call.

        Raises:
            MemoryError: There was no room for the results.
        """
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        # Copied in and out, the keys and values of two lines would take twice as long as they take to compute.
        results = self._of_thread.request.infer([argument.float().numpy()], share_inputs=True, share_outputs=True)
        tensors = tuple(torch.from_numpy(result) for result in results.values())
        if any(len(tensor) != len(argument) for tensor in tensors):
            # seen on one core: no error, and what the call before gave
            raise MemoryError("OpenVINO had no room for its results")
        return tensors


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        with errors_named():
            yield
    except (ImportError, RuntimeError) as error:
        raise ModelUnavailable(
            f"OpenVINO cannot compute this model; uninstall it, or set INKQUEUE_DTYPE=float32: {error}"
        ) from error


def _converted(module: nn.Module, shape: Sequence[int]) -> Any:
    # Here, because it is an extra.
    from openvino import convert_model

    example = torch.zeros([max(length, 1) for length in shape])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a module's checks of its argument become constants
        return convert_model(module, example_input=example, input=list(shape))


@cache
def _core() -> Any:
    """OpenVINO itself, once and for good; to be asked for by one thread at a time, as models are loaded.

    A core gives the thread that first compiles with it a stack for signals. When the core and its models have gone, it
    frees that stack and puts back the one before, which may have been freed by then
    (src/plugins/intel_cpu/src/sigstack_manager.cpp): the next signal that Python handles would end the process.
    """
    from openvino import Core

    return Core()
