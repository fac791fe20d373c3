"""What the number format of a TrOCR model costs, and whether its text depends on the lines beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from benchmarks.line_readings import Reading, TranscribedLine, character_errors, read
from core.settings import settings
from worker.models import load_recognizer
from worker.recognizer import ModelCard, Recognizer


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """How much a TrOCR model's text depends on its number format and on the lines beside it."""

    #: The default on this machine.
    dtype: str
    device: str
    cer: float
    cer_float32: float
    #: Standard deviation of the difference of the two, were other lines of this kind measured; 0 of a single line.
    #: Lines count as independent, though those of a page share hand and paper.
    difference_deviation: float
    #: Lines read with fewer, and with more, character errors than in float32.
    better: int
    worse: int
    #: Share of the lines whose text is the same alone and in a full batch.
    same_alone: float


def exactness(recognizer: Recognizer, lines: Sequence[TranscribedLine], in_batch: Sequence[Reading]) -> Exactness:
    """Read the lines once more alone, and in float32 where that is not the default."""
    card = recognizer.card
    alone = read(recognizer, lines, rows=1)
    exact = in_batch
    if card.dtype != "float32":
        in_float32 = load_recognizer(card.name, settings().model_copy(update={"dtype": "float32"}))
        exact = read(in_float32, lines, rows=in_float32.rows)
    return compared(card, lines, in_batch=in_batch, in_float32=exact, alone=alone)


def compared(
    card: ModelCard,
    lines: Sequence[TranscribedLine],
    *,
    in_batch: Sequence[Reading],
    in_float32: Sequence[Reading],
    alone: Sequence[Reading],
) -> Exactness:
    """Compare readings of the same lines.

    Source:
        The deviation is that of a ratio of sums over lines: Cochran, Sampling Techniques, 1977, chapter 6.
    """
    characters = np.array([len(line.text) for line in lines])
    errors, errors_float32 = character_errors(lines, in_batch), character_errors(lines, in_float32)
    more = errors - errors_float32
    residual = more - characters * more.sum() / characters.sum()
    variance = (residual**2).sum() * len(lines) / max(1, len(lines) - 1)
    return Exactness(
        dtype=card.dtype,
        device=card.device,
        cer=float(errors.sum() / characters.sum()),
        cer_float32=float(errors_float32.sum() / characters.sum()),
        difference_deviation=float(np.sqrt(variance) / characters.sum()),
        better=int((more < 0).sum()),
        worse=int((more > 0).sum()),
        same_alone=sum(a.text == b.text for a, b in zip(alone, in_batch, strict=True)) / len(lines),
    )


def exactness_table(found: Mapping[str, Exactness]) -> Table:
    """Show what was found, a column for each model."""
    rows: dict[str, Callable[[Exactness], str]] = {
        "default format": lambda it: f"{it.dtype} on {it.device}",
        "CER": lambda it: f"{it.cer:.4f}",
        "CER in float32": lambda it: f"{it.cer_float32:.4f}",
        "CER more than that, points": lambda it: (
            f"{100 * (it.cer - it.cer_float32):.2f} ± {100 * it.difference_deviation:.2f}"
        ),
        "lines with fewer, more errors": lambda it: f"{it.better}, {it.worse}",
        "read the same alone and in a batch": lambda it: f"{it.same_alone:.2%}",
    }
    table = Table("", *found, title="Number format")
    for name, shown in rows.items():
        table.add_row(name, *map(shown, found.values()))
    return table
