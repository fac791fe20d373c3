"""How well each recognizer reads the test lines, through the same code as the service.

    python -m benchmarks.accuracy [--data DIR] [--json FILE]

CER and WER are edit distances summed over lines, divided by the summed length of the references, as
`training/error_rates.py` computes them: both texts are brought to NFC and their white space is folded; case, accents
and punctuation count. `unseen` leaves out the lines whose text also occurs in the training lines, since the forms share
some boilerplate. Test lines are never trained on.

Of TrOCR models it also tells what their number format costs: CER in the default format and in float32, and the share of
lines that read the same alone and in a full batch.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from core.settings import settings
from training.error_rates import ErrorRates, error_rates
from training.samples import normalize_text
from worker.models import load_recognizer
from worker.recognizer import LinePixels, LineRequest, Recognizer

_BUNDLED = "trocr-tiny"
_FEWEST_LINES = 5
_BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01)
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, kw_only=True)
class TestLine:
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


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """How much a TrOCR model's text depends on its number format and on the lines beside it."""

    #: The default on this machine.
    dtype: str
    device: str
    cer: float
    cer_float32: float
    #: Share of the lines whose text is the same alone and in a full batch.
    same_alone: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one recognizer made of all lines."""

    recognizer: str
    readings: Sequence[Reading]
    lines_per_s: float
    #: Of TrOCR models.
    exactness: Exactness | None = None


def main(
    data: Annotated[Path, typer.Option(help="Folder of sources, each with test.tsv, test/ and train.tsv.")] = Path(
        "../shared/data"
    ),
    model: Annotated[list[str] | None, typer.Option(help="More models, by name, folder or hub id.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Measure the bundled model, PP-OCR and, where it is installed, tesseract on the same lines."""
    lines = list(_test_lines(data))
    if not lines:
        raise typer.BadParameter(f"{data}: no source with test lines was found")
    results = [_read_with(name, lines) for name in (_BUNDLED, "ppocr-v6", *(model or ()))]
    if shutil.which("tesseract"):
        results.append(_timed("tesseract", lines, _tesseract))
    console = Console()
    console.print(_accuracy_table(lines, results))
    for result in results:
        if result.readings[0].confidence is not None:
            console.print(_reliability_table(lines, result))
            console.print(_threshold_table(lines, result))
    console.print(_exactness_table(results))
    if json_file:
        json_file.write_text(json.dumps(_figures(lines, results), indent=2) + "\n", encoding="utf-8")


def _test_lines(data: Path) -> Iterator[TestLine]:
    for table in sorted(data.glob("*/test.tsv")):
        folder = table.parent
        train_texts = {text for *_, text in _rows(folder / "train.tsv")} if (folder / "train.tsv").is_file() else set()
        for file, _, kind, text in _rows(table):
            with Image.open(folder / "test" / file) as image:
                pixels = np.asarray(image.convert("RGB"))
            short_kind = kind.rpartition(":")[2].lower()
            yield TestLine(
                pixels=pixels,
                text=text,
                source=folder.name,
                kind="" if short_kind == "default" else short_kind,
                seen_text=text in train_texts,
            )


def _rows(table: Path) -> Iterator[tuple[str, str, str, str]]:
    with table.open(encoding="utf-8", newline="") as rows:
        for file, page, kind, text in csv.reader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
            if normalize_text(text):
                yield file, page, kind, normalize_text(text)


def _read_with(name: str, lines: Sequence[TestLine]) -> Result:
    """Read all lines with one of the worker's recognizers, its rows always full."""
    recognizer = load_recognizer(name, settings())
    result = _timed(name, lines, lambda lines: _read(recognizer, lines, rows=recognizer.rows))
    # Imported here: PyTorch must not be loaded before `load_recognizer` has told its threads how to wait.
    from worker.trocr import TrocrRecognizer

    if isinstance(recognizer, TrocrRecognizer):
        return replace(result, exactness=_exactness(recognizer, lines, result.readings))
    return result


def _read(recognizer: Recognizer, lines: Sequence[TestLine], *, rows: int) -> list[Reading]:
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


def _exactness(recognizer: Recognizer, lines: Sequence[TestLine], in_batch: Sequence[Reading]) -> Exactness:
    card, everything = recognizer.card, range(len(lines))
    alone = _read(recognizer, lines, rows=1)
    exact = in_batch
    if card.dtype != "float32":
        in_float32 = load_recognizer(card.name, settings().model_copy(update={"dtype": "float32"}))
        exact = _read(in_float32, lines, rows=in_float32.rows)
    return Exactness(
        dtype=card.dtype,
        device=card.device,
        cer=_rates(lines, in_batch, everything).cer,
        cer_float32=_rates(lines, exact, everything).cer,
        same_alone=sum(a.text == b.text for a, b in zip(alone, in_batch, strict=True)) / len(lines),
    )


def _tesseract(lines: Sequence[TestLine]) -> list[Reading]:
    """Read the lines with tesseract's French and English models, each as one text line (segmentation mode 7)."""
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.png" for index in range(len(lines))]
        for file, line in zip(files, lines, strict=True):
            Image.fromarray(line.pixels).save(file)
        listed = Path(folder) / "lines.txt"
        listed.write_text("\n".join(map(str, files)), encoding="utf-8")
        command = ["tesseract", str(listed), "stdout", "--psm", "7", "-l", "fra+eng"]
        environment = os.environ | {"OMP_THREAD_LIMIT": "1"}
        done = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    pages = done.stdout.split("\f")[: len(lines)]
    return [Reading(text=page, confidence=None) for page in pages]


def _timed(name: str, lines: Sequence[TestLine], read: Callable[[Sequence[TestLine]], list[Reading]]) -> Result:
    start = time.perf_counter()
    readings = read(lines)
    return Result(recognizer=name, readings=readings, lines_per_s=len(lines) / (time.perf_counter() - start))


def _groups(lines: Sequence[TestLine]) -> dict[str, list[int]]:
    """Name the groups that figures are given for, with the indices of their lines."""
    groups: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        groups.setdefault(line.source, []).append(index)
        if line.kind:
            groups.setdefault(f"{line.source}_{line.kind}", []).append(index)
    unseen = {f"{name}_unseen": [i for i in found if not lines[i].seen_text] for name, found in groups.items()}
    groups |= {name: found for name, found in unseen.items() if len(found) < len(groups[name.removesuffix("_unseen")])}
    return {name: found for name, found in sorted(groups.items()) if len(found) >= _FEWEST_LINES}


def _rates(lines: Sequence[TestLine], readings: Sequence[Reading], indices: Sequence[int]) -> ErrorRates:
    return error_rates([lines[i].text for i in indices], [readings[i].text for i in indices])


def _accuracy_table(lines: Sequence[TestLine], results: Sequence[Result]) -> Table:
    table = Table(title="CER / WER on the test lines")
    table.add_column("lines of")
    table.add_column("number", justify="right")
    for result in results:
        table.add_column(result.recognizer, justify="right")
    for name, indices in _groups(lines).items():
        rates = [_rates(lines, result.readings, indices) for result in results]
        table.add_row(name, str(len(indices)), *(f"{rate.cer:.3f} / {rate.wer:.3f}" for rate in rates))
    table.add_row("lines/s", "", *(f"{result.lines_per_s:.1f}" for result in results))
    return table


def _errors(lines: Sequence[TestLine], result: Result, indices: Sequence[int]) -> float:
    """Sum the character edits of some lines."""
    if not indices:
        return 0.0
    return _rates(lines, result.readings, indices).cer * sum(len(lines[i].text) for i in indices)


def _reliability(lines: Sequence[TestLine], result: Result) -> list[dict[str, float]]:
    """Compare confidence with accuracy, bin by bin: a well calibrated recognizer has confidence near 1 - CER."""
    confidences = np.array([reading.confidence or 0.0 for reading in result.readings])
    bins = []
    for low, high in pairwise(_BINS):
        indices = [int(i) for i in np.flatnonzero((confidences >= low) & (confidences < high))]
        if indices:
            mean, cer = float(confidences[indices].mean()), _rates(lines, result.readings, indices).cer
            bins.append({"from": low, "to": min(high, 1.0), "lines": len(indices), "confidence": mean, "cer": cer})
    return bins


def _caught(lines: Sequence[TestLine], result: Result) -> list[dict[str, float]]:
    """Count, for thresholds, the lines whose confidence is below and the share of all character errors in them."""
    total = _errors(lines, result, range(len(lines)))
    rows = []
    for threshold in _THRESHOLDS:
        below = [i for i, reading in enumerate(result.readings) if (reading.confidence or 0.0) < threshold]
        caught = _errors(lines, result, below) / total if total else 0.0
        rows.append({"threshold": threshold, "lines_share": len(below) / len(lines), "errors_share": caught})
    return rows


def _reliability_table(lines: Sequence[TestLine], result: Result) -> Table:
    table = Table(
        "confidence", "lines", "mean confidence", "CER", title=f"{result.recognizer}: is its confidence right?"
    )
    for row in _reliability(lines, result):
        span = f"{row['from']:.2f} to {row['to']:.2f}"
        table.add_row(span, f"{row['lines']:.0f}", f"{row['confidence']:.3f}", f"{row['cer']:.3f}")
    return table


def _threshold_table(lines: Sequence[TestLine], result: Result) -> Table:
    table = Table(
        "below", "share of lines", "share of errors", title=f"{result.recognizer}: errors a threshold catches"
    )
    for row in _caught(lines, result):
        table.add_row(f"{row['threshold']:.2f}", f"{row['lines_share']:.3f}", f"{row['errors_share']:.3f}")
    return table


def _exactness_table(results: Sequence[Result]) -> Table:
    table = Table(
        "model", "default dtype", "CER", "CER in float32", "read the same alone and in a batch", title="Number format"
    )
    for result in results:
        if found := result.exactness:
            dtype = f"{found.dtype} on {found.device}"
            table.add_row(
                result.recognizer, dtype, f"{found.cer:.4f}", f"{found.cer_float32:.4f}", f"{found.same_alone:.2%}"
            )
    return table


def _figures(lines: Sequence[TestLine], results: Sequence[Result]) -> dict[str, object]:
    """Put all figures together: the bundled model's by group, and the same for every recognizer."""
    by_recognizer: dict[str, dict[str, object]] = {}
    for result in results:
        rates = {name: _rates(lines, result.readings, indices) for name, indices in _groups(lines).items()}
        by_recognizer[result.recognizer] = {
            **{name: {"cer": rate.cer, "wer": rate.wer, "lines": rate.lines} for name, rate in rates.items()},
            "lines_per_s": result.lines_per_s,
        }
        if result.readings[0].confidence is not None:
            by_recognizer[result.recognizer]["reliability"] = _reliability(lines, result)
            by_recognizer[result.recognizer]["caught"] = _caught(lines, result)
        if result.exactness:
            by_recognizer[result.recognizer]["exactness"] = asdict(result.exactness)
    return {**by_recognizer[_BUNDLED], "recognizers": by_recognizer}


if __name__ == "__main__":
    typer.run(main)
