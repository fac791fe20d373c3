"""What PyTorch's and OpenVINO's exceptions mean for the lines: too little memory, a device that is lost, or neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from worker.recognizer import DeviceLost, RecognizerOutOfMemory

#: What tells of too little memory in errors that have no class of their own for it: of CUDA's driver, of cuBLAS, of the
#: CPU's allocator, of OpenVINO; and of the recording of a CUDA graph, whose end says no more than that something failed
#: before (https://github.com/pytorch/pytorch/pull/187795).
_OUT_OF_MEMORY = (
    *("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory"),
    *("Failed to allocate", "can't alloc"),
    "operation failed due to a previous error during capture",
)
#: What OpenVINO answers to every call of a size for which it once had no room.
_LOST = "Broken promise"


@contextmanager
def errors_named() -> Iterator[None]:
    """Raise what PyTorch and OpenVINO raise as what it means.

    Raises:
        RecognizerOutOfMemory: There was no room on the device, or on the host.
        DeviceLost: After a failed assertion, a bad address or a broken promise every further call fails.
        Exception: Anything else as it is.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if _is_out_of_memory(error):
            torch.cuda.empty_cache()
            raise RecognizerOutOfMemory(str(error)) from error
        if isinstance(error, torch.AcceleratorError) or _LOST in str(error):
            raise DeviceLost(str(error)) from error
        raise


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it came of as something was being cleaned up, tells of too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return True
    return error.__context__ is not None and _is_out_of_memory(error.__context__)
