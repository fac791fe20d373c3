"""The state of a run on disk, so that it goes on where it was stopped."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from training.plan import TrainingPlan

_FILE = "state.pt"


@dataclass(kw_only=True)
class RunState:
    """How far a run is."""

    steps: int = 0
    #: Lines learnt from, over all processes.
    lines: int = 0
    #: Minutes spent, over all sessions of the run.
    minutes: float = 0.0
    #: The lowest validation CER so far; infinite before the first evaluation.
    lowest_cer: float = float("inf")
    #: Evaluations since then.
    evaluations_since_lowest: int = 0
    #: Validation CER and WER of the weights that are kept.
    kept_cer: float = float("inf")
    kept_wer: float = float("inf")


def save_checkpoint(
    folder: Path, state: RunState, weights: dict[str, Any], kept: list[torch.Tensor], plan: TrainingPlan
) -> None:
    """Write a checkpoint beside the last one and put it in its place, so that a kill leaves a whole one."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{_FILE}.new"
    torch.save({"state": asdict(state), "weights": weights, "kept": kept, "plan": asdict(plan)}, unfinished)
    unfinished.replace(folder / _FILE)


def load_checkpoint(folder: Path) -> tuple[RunState, dict[str, Any], list[torch.Tensor]] | None:
    """Read a checkpoint: the state, the weight keeper's part, and the weights to end with; None if there is none."""
    file = folder / _FILE
    if not file.is_file():
        return None
    stored = torch.load(file, map_location="cpu", weights_only=True)
    return RunState(**stored["state"]), stored["weights"], stored["kept"]
