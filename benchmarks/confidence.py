"""Whether a recognizer's confidence is right, and which errors a threshold on it catches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from rich.table import Table

from benchmarks.line_readings import Reading, TranscribedLine, character_errors, rates

_BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01)
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def reliability(lines: Sequence[TranscribedLine], readings: Sequence[Reading]) -> list[dict[str, float]]:
    """Compare confidence with accuracy, bin by bin: a well calibrated recognizer has confidence near 1 - CER."""
    confidences = np.array([reading.confidence or 0.0 for reading in readings])
    bins = []
    for low, high in pairwise(_BINS):
        indices = [int(i) for i in np.flatnonzero((confidences >= low) & (confidences < high))]
        if indices:
            mean, cer = float(confidences[indices].mean()), rates(lines, readings, indices).cer
            bins.append({"from": low, "to": min(high, 1.0), "lines": len(indices), "confidence": mean, "cer": cer})
    return bins


def caught(lines: Sequence[TranscribedLine], readings: Sequence[Reading]) -> list[dict[str, float]]:
    """Count, for thresholds, the lines whose confidence is below and the share of all character errors in them."""
    errors = character_errors(lines, readings)
    confidences = np.array([reading.confidence or 0.0 for reading in readings])
    rows = []
    for threshold in _THRESHOLDS:
        below = confidences < threshold
        errors_share = float(errors[below].sum() / max(1, errors.sum()))
        rows.append({"threshold": threshold, "lines_share": float(below.mean()), "errors_share": errors_share})
    return rows


def reliability_table(recognizer: str, lines: Sequence[TranscribedLine], readings: Sequence[Reading]) -> Table:
    """Show confidence beside accuracy."""
    table = Table("confidence", "lines", "mean confidence", "CER", title=f"{recognizer}: is its confidence right?")
    for row in reliability(lines, readings):
        span = f"{row['from']:.2f} to {row['to']:.2f}"
        table.add_row(span, f"{row['lines']:.0f}", f"{row['confidence']:.3f}", f"{row['cer']:.3f}")
    return table


def threshold_table(recognizer: str, lines: Sequence[TranscribedLine], readings: Sequence[Reading]) -> Table:
    """Show which share of the errors stands in lines below each threshold."""
    table = Table("below", "share of lines", "share of errors", title=f"{recognizer}: errors a threshold catches")
    for row in caught(lines, readings):
        table.add_row(f"{row['threshold']:.2f}", f"{row['lines_share']:.3f}", f"{row['errors_share']:.3f}")
    return table
