"""What a figure was measured on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from worker.recognizer import ModelCard

#: Instructions that decide how fast a CPU multiplies, as /proc/cpuinfo names them.
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Processor, device and versions."""

    cpu: str
    cores: int
    flags: tuple[str, ...]
    device: str
    dtype: str
    torch: str
    transformers: str

    @property
    def described(self) -> str:
        """All of it in a line."""
        flags = " ".join(self.flags) or "none"
        return (
            f"{self.device}, {self.dtype}; {self.cpu}, {self.cores} cores, of {', '.join(_FLAGS)} it has: {flags}; "
            f"torch {self.torch}, transformers {self.transformers}"
        )


def this_machine(card: ModelCard) -> Machine:
    """The machine that a model runs on."""
    words = _cpuinfo("flags").split()
    device = torch.cuda.get_device_name() if card.device.startswith("cuda") else card.device
    return Machine(
        cpu=_cpuinfo("model name"),
        cores=os.cpu_count() or 1,
        flags=tuple(flag for flag in _FLAGS if flag in words),
        device=device,
        dtype=card.dtype,
        torch=torch.__version__,
        transformers=transformers.__version__,
    )


def _cpuinfo(field: str) -> str:
    """The first processor's entry, or an empty text where there is no such file."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="ascii", errors="replace").splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
