"""How well each recognizer reads the test lines, through the same code as the service.

    python -m benchmarks.accuracy [--data DIR] [--rough] [--json FILE]

CER and WER are edit distances summed over lines, divided by the summed length of the references, as
`training/error_rates.py` computes them: both texts are brought to NFC and their white space is folded; case, accents
and punctuation count. `unseen` leaves out the lines whose text also occurs in the training lines, since the forms share
some boilerplate. Test lines are never trained on. With `--rough` the same lines are read as rough cuts would show them.

Of TrOCR models it also tells what their number format costs: CER in the default format and in float32, how many
lines that makes better and worse, and the share of lines that read the same alone and in a full batch.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.confidence import caught, reliability, reliability_table, threshold_table
from benchmarks.line_readings import Reading, TranscribedLine, rates, read, roughly_cut, transcribed_lines
from benchmarks.number_format import Exactness, exactness, exactness_table
from core.settings import settings
from worker.models import load_recognizer

_BUNDLED = "trocr-tiny"
_FEWEST_LINES = 5


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
    rough: Annotated[
        bool, typer.Option("--rough", help="Lines among margins and parts of others, on dark paper.")
    ] = False,
    model: Annotated[list[str] | None, typer.Option(help="More models, by name, folder or hub id.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Measure the bundled model, PP-OCR and, where it is installed, tesseract on the same lines."""
    lines = list(transcribed_lines(data))
    if not lines:
        raise typer.BadParameter(f"{data}: no source with test lines was found")
    if rough:
        lines = roughly_cut(lines)
    results = [_read_with(name, lines) for name in (_BUNDLED, "ppocr-v6", *(model or ()))]
    if shutil.which("tesseract"):
        results.append(_timed("tesseract", lines, _tesseract))
    console = Console()
    console.print(
        _accuracy_table(lines, results, title=f"CER / WER on the test lines{', roughly cut' if rough else ''}")
    )
    for result in results:
        if result.readings[0].confidence is not None:
            console.print(reliability_table(result.recognizer, lines, result.readings))
            console.print(threshold_table(result.recognizer, lines, result.readings))
    console.print(exactness_table({result.recognizer: result.exactness for result in results if result.exactness}))
    if json_file:
        json_file.write_text(json.dumps({"rough": rough} | _figures(lines, results), indent=2) + "\n", encoding="utf-8")


def _read_with(name: str, lines: Sequence[TranscribedLine]) -> Result:
    """Read all lines with one of the worker's recognizers, its rows always full."""
    recognizer = load_recognizer(name, settings())
    result = _timed(name, lines, lambda lines: read(recognizer, lines, rows=recognizer.rows))
    # Imported here: PyTorch must not be loaded before `load_recognizer` has told its threads how to wait.
    from worker.trocr import TrocrRecognizer

    if isinstance(recognizer, TrocrRecognizer):
        return replace(result, exactness=exactness(recognizer, lines, result.readings))
    return result


def _tesseract(lines: Sequence[TranscribedLine]) -> list[Reading]:
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


def _timed(
    name: str, lines: Sequence[TranscribedLine], reads: Callable[[Sequence[TranscribedLine]], list[Reading]]
) -> Result:
    start = time.perf_counter()
    readings = reads(lines)
    return Result(recognizer=name, readings=readings, lines_per_s=len(lines) / (time.perf_counter() - start))


def _groups(lines: Sequence[TranscribedLine]) -> dict[str, list[int]]:
    """Name the groups that figures are given for, with the indices of their lines."""
    groups: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        groups.setdefault(line.source, []).append(index)
        if line.kind:
            groups.setdefault(f"{line.source}_{line.kind}", []).append(index)
    unseen = {f"{name}_unseen": [i for i in found if not lines[i].seen_text] for name, found in groups.items()}
    groups |= {name: found for name, found in unseen.items() if len(found) < len(groups[name.removesuffix("_unseen")])}
    return {name: found for name, found in sorted(groups.items()) if len(found) >= _FEWEST_LINES}


def _accuracy_table(lines: Sequence[TranscribedLine], results: Sequence[Result], *, title: str) -> Table:
    table = Table(title=title)
    table.add_column("lines of")
    table.add_column("number", justify="right")
    for result in results:
        table.add_column(result.recognizer, justify="right")
    for name, indices in _groups(lines).items():
        found = [rates(lines, result.readings, indices) for result in results]
        table.add_row(name, str(len(indices)), *(f"{rate.cer:.3f} / {rate.wer:.3f}" for rate in found))
    table.add_row("lines/s", "", *(f"{result.lines_per_s:.1f}" for result in results))
    return table


def _figures(lines: Sequence[TranscribedLine], results: Sequence[Result]) -> dict[str, object]:
    """Put all figures together: the bundled model's by group, and the same for every recognizer."""
    by_recognizer: dict[str, dict[str, object]] = {}
    for result in results:
        found = {name: rates(lines, result.readings, indices) for name, indices in _groups(lines).items()}
        by_recognizer[result.recognizer] = {
            **{name: {"cer": rate.cer, "wer": rate.wer, "lines": rate.lines} for name, rate in found.items()},
            "lines_per_s": result.lines_per_s,
        }
        if result.readings[0].confidence is not None:
            by_recognizer[result.recognizer]["reliability"] = reliability(lines, result.readings)
            by_recognizer[result.recognizer]["caught"] = caught(lines, result.readings)
        if result.exactness:
            by_recognizer[result.recognizer]["exactness"] = asdict(result.exactness)
    return {**by_recognizer[_BUNDLED], "recognizers": by_recognizer}


if __name__ == "__main__":
    typer.run(main)
