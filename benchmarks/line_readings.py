"""Test lines, and what recognizers make of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rapidfuzz.distance import Levenshtein

from training.error_rates import ErrorRates, error_rates
from training.line_images import GreyLine
from training.samples import normalize_text
from training.surroundings import with_surroundings
from worker.recognizer import LinePixels, LineRequest, Recognizer

#: What the levels of the darkest of the roughly cut lines are multiplied by.
_DARKEST = 0.55


@dataclass(frozen=True, kw_only=True)
class TranscribedLine:
    """One line with its transcription."""

    pixels: LinePixels
    text: str
    #: `copiste`, `stanford`, ...
    source: str
    #: `handwritten`, `typewritten`, ..., or empty.
    kind: str
    #: Its text occurs among the training lines of its source.
    seen_text: bool


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one recognizer made of one line."""

    text: str
    #: In [0, 1]; None when the recognizer states none.
    confidence: float | None


def transcribed_lines(data: Path) -> Iterator[TranscribedLine]:
    """Give the test lines of all sources in a folder, each with `test.tsv`, `test/` and perhaps `train.tsv`."""
    for table in sorted(data.glob("*/test.tsv")):
        folder = table.parent
        train_texts = {text for *_, text in _rows(folder / "train.tsv")} if (folder / "train.tsv").is_file() else set()
        for file, _, kind, text in _rows(table):
            with Image.open(folder / "test" / file) as image:
                pixels = np.asarray(image.convert("RGB"))
            short_kind = kind.rpartition(":")[2].lower()
            yield TranscribedLine(
                pixels=pixels,
                text=text,
                source=folder.name,
                kind="" if short_kind == "default" else short_kind,
                seen_text=text in train_texts,
            )


def roughly_cut(lines: Sequence[TranscribedLine]) -> list[TranscribedLine]:
    """Put each line, in grey, among margins and parts of others of its source, on darker paper; always the same way."""
    rng = np.random.default_rng(7)
    greys = [_grey(line.pixels) for line in lines]
    sources: dict[str, list[GreyLine]] = {}
    for line, grey in zip(lines, greys, strict=True):
        sources.setdefault(line.source, []).append(grey)
    rough = []
    for line, grey in zip(lines, greys, strict=True):
        others = sources[line.source]
        above, below = (others[int(index)] for index in rng.integers(len(others), size=2))
        levels = with_surroundings(grey, above, below, rng) * rng.uniform(_DARKEST, 1.0)
        rough.append(replace(line, pixels=np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)))
    return rough


def read(recognizer: Recognizer, lines: Sequence[TranscribedLine], *, rows: int) -> list[Reading]:
    """Read all lines, so many at once."""
    found: dict[str, Reading] = {}
    waiting = {str(index): line.pixels for index, line in enumerate(lines)}
    in_rows = 0
    while waiting or in_rows:
        free = [*waiting][: rows - in_rows]
        if free:
            recognizer.admit({key: LineRequest(pixels=waiting.pop(key)) for key in free})
            in_rows += len(free)
        ended = recognizer.step()
        in_rows -= len(ended)
        found.update({key: Reading(text=r.text, confidence=r.confidence) for key, r in ended.items()})
    return [found[str(index)] for index in range(len(lines))]


def rates(lines: Sequence[TranscribedLine], readings: Sequence[Reading], indices: Sequence[int]) -> ErrorRates:
    """Measure some of the readings, given by index."""
    return error_rates([lines[i].text for i in indices], [readings[i].text for i in indices])


def character_errors(lines: Sequence[TranscribedLine], readings: Sequence[Reading]) -> npt.NDArray[np.int64]:
    """Count the character edits of each line, as the CER does."""
    pairs = zip(lines, readings, strict=True)
    return np.array([Levenshtein.distance(line.text, normalize_text(reading.text)) for line, reading in pairs])


def _rows(table: Path) -> Iterator[tuple[str, str, str, str]]:
    with table.open(encoding="utf-8", newline="") as rows:
        for file, page, kind, text in csv.reader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
            if normalize_text(text):
                yield file, page, kind, normalize_text(text)


def _grey(pixels: LinePixels) -> GreyLine:
    return np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.uint8)
