"""How much a fine-tune on some lines of one hand lowers the error rate on other lines of that hand.

    python -m benchmarks.fine_tuning [--data TSV] [--hands N] [--minutes M] [--processes P] [--json FILE]

For each of the forms with the most lines, the model is fine-tuned by `python -m training` on every line but each third,
and reads those before and after. The lines must be none that the model has learnt from. Figures are for one form: two
forms of one writer count as two hands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from training.error_rates import ErrorRates
from training.evaluation import Evaluator
from training.labels import labels_of
from training.line_folders import read_corpus
from training.line_pixels import LineFormat, stored_height_px
from training.samples import LineSample, form_of
from training.start import checkpoint_folder, starting_point
from training.unusable_input import UnusableInput

_EVERY_NTH_IS_READ = 3


@dataclass(frozen=True, kw_only=True)
class Hand:
    """What a fine-tune did for one hand."""

    form: str
    learnt_lines: int
    read_lines: int
    before: ErrorRates
    after: ErrorRates


def main(
    data: Annotated[Path, typer.Option(help="Lines with texts; none that the model has learnt from.")] = Path(
        "../shared/data/copiste/test.tsv"
    ),
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub id.")] = "models/trocr-tiny",
    hands: Annotated[int, typer.Option(min=1, help="How many forms, those with the most lines first.")] = 6,
    minutes: Annotated[float, typer.Option(min=0.05, help="Of each fine-tune; its lines may end it before.")] = 60.0,
    processes: Annotated[
        int, typer.Option(min=1, help="CPU processes of each fine-tune; by default one a core, and 1 on a GPU.")
    ] = 1 if torch.cuda.is_available() else os.cpu_count() or 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Fine-tune on one hand after the other, and compare."""
    try:
        folder = checkpoint_folder(model)
    except UnusableInput as error:
        raise typer.BadParameter(str(error)) from error
    results = [
        _fine_tuned(form, lines, model=folder, minutes=minutes, processes=processes)
        for form, lines in _largest_forms(read_corpus(data), hands)
    ]
    table = Table("form", "lines learnt", "lines read", "CER before", "CER after", "WER before", "WER after")
    for hand in results:
        table.add_row(
            hand.form,
            str(hand.learnt_lines),
            str(hand.read_lines),
            *(f"{rate:.3f}" for rate in (hand.before.cer, hand.after.cer, hand.before.wer, hand.after.wer)),
        )
    Console().print(table)
    before, after = (sum(getattr(hand, when).cer for hand in results) / len(results) for when in ("before", "after"))
    lower = sum(hand.after.cer < hand.before.cer for hand in results)
    print(f"mean CER {before:.3f} before, {after:.3f} after; lower for {lower} of {len(results)} hands")
    if json_file:
        json_file.write_text(json.dumps([asdict(hand) for hand in results], indent=2) + "\n", encoding="utf-8")


def _largest_forms(samples: Sequence[LineSample], hands: int) -> list[tuple[str, list[LineSample]]]:
    forms: dict[str, list[LineSample]] = defaultdict(list)
    for sample in samples:
        if sample.polygon:
            raise typer.BadParameter(f"{sample.image}: a page; this takes line images")
        forms[form_of(sample)].append(sample)
    large = [(form, lines) for form, lines in forms.items() if len(lines) >= _EVERY_NTH_IS_READ]
    if not large:
        raise typer.BadParameter(f"there is no form of {_EVERY_NTH_IS_READ} lines or more")
    return sorted(large, key=lambda form: -len(form[1]))[:hands]


def _fine_tuned(form: str, lines: Sequence[LineSample], *, model: Path, minutes: float, processes: int) -> Hand:
    read = lines[_EVERY_NTH_IS_READ - 1 :: _EVERY_NTH_IS_READ]
    learnt = [line for line in lines if line not in read]
    with TemporaryDirectory() as folder:
        table, tuned = Path(folder) / "hand.tsv", Path(folder) / "tuned"
        table.write_text(
            "".join(f"{line.image.resolve()}\t{line.page}\t{line.kind}\t{line.text}\n" for line in learnt),
            encoding="utf-8",
        )
        options = [str(tuned), "--model", str(model), "--data", str(table)]
        options += ["--minutes", str(minutes), "--processes", str(processes)]
        subprocess.run([sys.executable, "-m", "training", *options], check=True)
        after = _rates(tuned, read)
    return Hand(form=form, learnt_lines=len(learnt), read_lines=len(read), before=_rates(model, read), after=after)


def _rates(model: Path, lines: Sequence[LineSample]) -> ErrorRates:
    start = starting_point(model)
    labels = labels_of(start.processor.tokenizer, start.folder)
    height_px = stored_height_px(LineFormat.of(start.processor))
    return Evaluator(lines, start.processor, labels, max_height_px=height_px).rates(start.model)


if __name__ == "__main__":
    typer.run(main)
