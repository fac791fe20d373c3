"""One training run: from what was asked for to a model folder with its card."""

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from training.batches import BatchMaker
from training.evaluation import Evaluator
from training.export import equalize_channels, export_model, keep_sentencepiece
from training.fonts import FontFile, find_fonts
from training.hybrid_reader import HybridReader, set_dropout
from training.labels import labels_of
from training.line_folders import read_corpus
from training.line_pixels import LineFormat, stored_height_px
from training.line_pool import LinePool, lines_digest
from training.line_store import open_store
from training.model_card import CardFacts, model_card
from training.plan import TrainingPlan
from training.processes import run_processes, share_of_rank
from training.progress import showing_progress
from training.run_request import RunRequest
from training.samples import LineSample, split_by_form
from training.start import checkpoint_folder, starting_point
from training.synthetic_store import draw_synthetic
from training.texts import TextSource, read_text_lines
from training.trainer import Trainer
from training.unusable_input import UnusableInput
from training.word_cuts import cut_lines

_VALIDATION_SHARE = 0.07
_MOST_VALIDATION_LINES = 300
#: Which lines are held back when there are too few forms to hold whole ones back.
_EVERY_NTH_LINE = 8


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What is learnt from and validated on."""

    train: Sequence[LineSample]
    held_back: Sequence[LineSample]
    #: How the validation lines were chosen, for the card.
    choice: str
    fonts: Sequence[FontFile]
    #: What lines that are drawn or joined anew may say.
    texts: TextSource
    #: The folder of the synthetic lines; each process opens it for itself.
    synthetic: Path | None


def train(request: RunRequest) -> None:
    """Run the whole training, in one process or several.

    Raises:
        UnusableInput: What is named in the request is missing or cannot be read.
    """
    start_folder = checkpoint_folder(request.model) if request.model is not None else None
    joins_lines = request.plan(start_folder).mixed_share > 0
    if (request.words or request.texts) and not (request.fonts or joins_lines):
        raise UnusableInput("--words and --texts need --fonts to draw them in, or lines joined anew (--mixed-share)")
    lines = _gather(request)
    run_processes(partial(_train_rank, request, start_folder, lines), request.processes)


def _gather(request: RunRequest) -> Lines:
    samples = [sample for path in request.data for sample in read_corpus(path)]
    if request.validation:
        kept, choice = samples, "other files, as given"
        held_back = [sample for path in request.validation for sample in read_corpus(path)]
    else:
        kept, held_back = split_by_form(samples, share=_VALIDATION_SHARE, seed=request.seed)
        choice = "whole forms, held back"
        if not held_back or not kept:
            kept = [sample for index, sample in enumerate(samples) if index % _EVERY_NTH_LINE]
            held_back, choice = (
                samples[::_EVERY_NTH_LINE],
                "every eighth line, since there are too few forms to hold whole ones back",
            )
    if not kept:
        raise UnusableInput("one line is not enough: some are learnt from, and others validate")
    fonts = find_fonts(request.fonts)
    running_text = [*(sample.text for sample in kept), *read_text_lines(request.texts)]
    texts = TextSource(running_text, read_text_lines(request.words))
    synthetic = draw_synthetic(
        request.state_folder / "synthetic",
        fonts,
        texts,
        lines=request.synthetic_lines,
        seed=request.seed,
    )
    return Lines(
        train=kept,
        held_back=_spread(held_back, _MOST_VALIDATION_LINES),
        choice=choice,
        fonts=fonts,
        texts=texts,
        synthetic=synthetic,
    )


def _spread(samples: Sequence[LineSample], most: int) -> list[LineSample]:
    """Take at most so many lines, evenly over all."""
    step = max(1, -(-len(samples) // most))
    return list(samples[::step])


def _train_rank(request: RunRequest, start_folder: Path | None, lines: Lines, rank: int) -> None:
    """Do one process's part; rank 0 shows progress and writes the model."""
    torch.manual_seed(request.seed)
    torch.set_flush_denormal(True)
    plan, device = request.plan(start_folder), _device(request.device)
    start = starting_point(start_folder)
    line_format = LineFormat.of(start.processor)
    labels = labels_of(start.processor.tokenizer, start.folder)
    reader = HybridReader(start.model, line_format, ctc_weight=plan.ctc_weight)
    reader.load_ctc_head(start.folder)
    if plan.dropout is not None:
        set_dropout(start.model, plan.dropout)
    synthetic = open_store(lines.synthetic) if lines.synthetic else None
    height_px = stored_height_px(line_format)
    pool = LinePool(lines.train, synthetic, max_height_px=height_px)
    if plan.mixed_share and reader.ctc_head is not None:
        own = share_of_rank(pool.real, rank, request.processes)
        pool.mix(cut_lines(reader, labels, own, shows_progress=rank == 0), lines.texts)
    trainer = Trainer(
        reader,
        BatchMaker(pool, labels, start.frame, line_format, column_px=reader.column_px),
        Evaluator(lines.held_back, start.processor, labels, max_height_px=height_px),
        plan,
        most_lines=plan.most_lines(len(lines.train), draws=synthetic is not None),
        state_folder=request.state_folder,
        rank=rank,
        device=device,
        fine_tunes=request.model is not None,
    )
    if request.resume and not trainer.resume():
        Console(stderr=True).print(f"{request.state_folder}: no checkpoint yet, so the run starts at its beginning")
    with showing_progress(plan, shown=rank == 0) as report:
        trainer.run(report)
    if rank == 0:
        if request.model is None:
            equalize_channels(start.model)
        card = model_card(_facts(request, plan, lines, trainer, start.model.num_parameters(), device))
        export_model(reader.cpu(), start.processor, request.out, card)
        keep_sentencepiece(start.folder, request.out)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _facts(
    request: RunRequest, plan: TrainingPlan, lines: Lines, trainer: Trainer, parameters: int, device: torch.device
) -> CardFacts:
    trained, held = (Counter(sample.source for sample in part) for part in (lines.train, lines.held_back))
    return CardFacts(
        name=request.out.name,
        base=request.model,
        parameters=parameters,
        command=shlex.join(["python", "-m", "training", *sys.argv[1:]]),
        corpora={name: (trained[name], held[name]) for name in {*trained, *held}},
        data_sha256=lines_digest(lines.train),
        validation=lines.choice,
        synthetic_lines=len(open_store(lines.synthetic)) if lines.synthetic else 0,
        fonts=lines.fonts,
        plan=plan,
        state=trainer.state,
        start_share=trainer.start_share,
        device=f"{request.processes} x {device.type}",
    )
