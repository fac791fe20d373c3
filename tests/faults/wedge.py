"""What a test and the worker of `worker.py` agree upon; apart from it, for it takes seconds to import."""

from __future__ import annotations

from pathlib import Path

MODEL = "ppocr-v6"


def wedge_file(state_dir: Path) -> Path:
    """The file whose presence makes the device hang at its next step; it is gone when that has happened."""
    return state_dir / "wedge"
