"""The real lines in `tests/data` with their transcriptions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from worker.recognizer import LinePixels

_FOLDER = Path(__file__).resolve().parent / "data"


def real_lines() -> Mapping[str, LinePixels]:
    """The pixels of each line, under its file's name."""
    return {file.name: np.asarray(Image.open(file).convert("RGB")) for file in line_files()}


def line_files() -> list[Path]:
    """The image of each line."""
    return [_FOLDER / name for name in transcriptions()]


def transcriptions() -> Mapping[str, str]:
    """What each line says, under its file's name."""
    with (_FOLDER / "lines.tsv").open(encoding="utf-8", newline="") as table:
        return {row["file"]: row["text"] for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)}
