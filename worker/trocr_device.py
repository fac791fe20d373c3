"""Where a TrOCR model runs, in which number format, and with how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import structlog
import torch

from worker.recognizer import ModelUnavailable

_log = structlog.get_logger(__name__)

#: Where NVIDIA's driver tells its version, whoever may use it.
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_CPUINFO = Path("/proc/cpuinfo")
#: Words in the `flags` of /proc/cpuinfo for instructions that multiply bfloat16: x86's two sets, and Arm's.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def choose_device(wanted: Literal["auto", "cpu", "cuda"], *, nvidia_driver: Path = _NVIDIA_DRIVER) -> torch.device:
    """The device to run on; `auto` is CUDA where there is one, and warns where there seems to be one.

    Raises:
        ModelUnavailable: CUDA is wanted and not there: running on the CPU instead would be a silent slowdown.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if wanted == "cuda":
        raise ModelUnavailable(
            f"no CUDA device is usable by PyTorch {torch.__version__}; "
            "check the driver and the build of PyTorch, or set INKQUEUE_DEVICE=cpu"
        )
    if nvidia_driver.exists():
        _log.warning("there is an NVIDIA GPU, but PyTorch cannot use it: running on the CPU", torch=torch.__version__)
    return torch.device("cpu")


def choose_dtype(
    wanted: Literal["auto", "float32", "bfloat16", "float16"],
    device: torch.device,
    *,
    cpuinfo: Path = _CPUINFO,
) -> torch.dtype:
    """The number format to compute in; `auto` is bfloat16 where the device multiplies in it, else float32."""
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    multiplies = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_multiplies_bfloat16(cpuinfo)
    return torch.bfloat16 if multiplies else torch.float32


@contextmanager
def computing_with(threads: int, *, else_with: int) -> Iterator[None]:
    """Let PyTorch compute with so many threads while the block lasts, and with `else_with` afterwards.

    It is this thread's number; but a thread that PyTorch sees for the first time meanwhile begins with it too, and
    keeps it. So whoever computes in a thread says with how many, and nobody relies on what was there before.
    """
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(else_with)


def cpu_multiplies_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the CPU has instructions for it, by what Linux tells of it."""
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return not _BFLOAT16_FLAGS.isdisjoint(flags.split())
