"""How fast lines are read, beside transformers on the same lines.

    python -m benchmarks.recognizer [--shape trocr-small | --model NAME] [--device cpu | cuda] [--json FILE]

Three ways of reading the same pictures, from pixels to token ids, take turns within one run:

- `shipped`: transformers as the model's card shows it, one picture at a time, and as the hub's config has it, without a
  key/value cache;
- `tuned`: transformers tuned by hand: static batches (16 on a CPU, 64 on a GPU) and a key/value cache. Both run in
  float32 on a CPU, in bfloat16 on a GPU;
- `ours`: `worker/trocr.py` in its default number format, its rows always full, lines joining and leaving in flight.

Random weights do not stop by themselves. With `--shape`, end tokens are left out on all sides and each line is cut at
its number of tokens, which are those of the real test lines in TrOCR-small's tokens. With `--model`, lines end as they
do. The token ids of all three are compared; in float32 they must be equal.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

# As in the worker (`worker/models.py`), and for all three ways: threads that wait in a loop would take the cores from
# those that encode. It leaves transformers as fast as it is without. OpenMP reads it when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import StoppingCriteria, StoppingCriteriaList

from benchmarks.machine import Machine, this_machine
from benchmarks.random_trocr import SHAPES, write_random_model
from core.settings import settings
from core.states import Priority
from tests.real_lines import real_lines
from worker.batcher import Batcher, QueuedLine
from worker.metrics import PrometheusObserver
from worker.recognizer import LinePixels, LineRequest, Recognition
from worker.trocr import TrocrRecognizer, find_checkpoint
from worker.trocr_checkpoint import Checkpoint

#: Tokens of lines, end token included: 48 quantiles of the 537 test lines of two published sources (modern French
#: hands, English letters of 1905) in TrOCR-small's tokens, shuffled. The mean is 15.3.
_LENGTHS = (
    *(25, 12, 26, 9, 6, 19, 4, 12, 14, 19, 19, 29, 22, 16, 11, 21, 20, 11, 14, 13, 14, 15, 17, 18),
    *(10, 5, 14, 24, 16, 15, 34, 22, 3, 16, 21, 4, 23, 7, 12, 15, 18, 17, 18, 8, 13, 6, 20, 9),
)
#: Lines that the slow way reads in each round.
_SHIPPED_LINES = 6
_STATIC_BATCH = {"cpu": 16, "cuda": 64}
#: A GPU reads 48 lines before its clock settles.
_REPEATS = {"cpu": 1, "cuda": 16}

_Device = Literal["auto", "cpu", "cuda"]
_Dtype = Literal["auto", "float32", "bfloat16", "float16"]
#: Token ids of a line.
Tokens = tuple[int, ...]
Way = Callable[[Sequence["Task"]], list[Tokens]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A line to read."""

    pixels: LinePixels
    #: Where it is cut; None where it ends by itself.
    tokens: int | None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds a line, one for each round."""

    way: str
    seconds: Sequence[float]

    @property
    def median_s(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.seconds)


def main(
    shape: Annotated[str, typer.Option(help=f"Random weights in this shape: {', '.join(SHAPES)}.")] = "trocr-small",
    model: Annotated[str | None, typer.Option(help="A real model instead: a name, a folder or a hub id.")] = None,
    device: Annotated[_Device, typer.Option(help="Where to run.")] = "auto",
    dtype: Annotated[_Dtype, typer.Option(help="Our number format.")] = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Each way reads so many times.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Measure our recognizer beside transformers."""
    console = Console()
    with _loaded(shape, model, device, dtype) as (recognizer, theirs):
        kind = theirs.model.device.type
        machine = this_machine(recognizer.card)
        console.print(machine.described)
        tasks = _tasks(forced=model is None) * _REPEATS[kind]
        ways: dict[str, tuple[Way, Sequence[Task]]] = {
            "shipped": (partial(_shipped, theirs), tasks[:_SHIPPED_LINES]),
            "tuned": (partial(_tuned, theirs), tasks),
            "ours": (partial(_ours, recognizer), tasks),
        }
        read, timings = _in_turns(ways, rounds)
        same = _share_of_same(read)
        figures = _figures(timings, same, machine)
        if kind == "cuda":
            figures["share_of_bf16_roofline"] = _share_of_roofline(recognizer, 1 / timings["ours"].median_s)
        console.print(_table(timings, same))
        short_share = _short_line_share(recognizer)
        figures["short_line_share"] = short_share
        console.print(f"A 5-token line that joins fifteen of 60 tokens ends within {short_share:.3f} of their time.")
        roofline = figures.get("share_of_bf16_roofline", "not measured, no GPU")
        console.print(f"Share of the encoder's bfloat16 roofline: {roofline}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if recognizer.card.dtype == "float32" and same < 1.0:
        raise SystemExit("in float32 the tokens should be the same")


@contextmanager
def _loaded(
    shape: str, model: str | None, device: _Device, dtype: _Dtype
) -> Iterator[tuple[TrocrRecognizer, Checkpoint]]:
    """Our recognizer, and what transformers reads with; random weights never end a line by themselves."""
    with TemporaryDirectory() as folder:
        source: Path | str = Path(folder)
        if model is None:
            write_random_model(Path(folder), shape)
        else:
            bundled = settings().model_dir / model
            source = bundled if bundled.is_dir() else model
        name = model or f"{shape} (random)"
        ours = find_checkpoint(source, name=name, device=device, dtype=dtype)
        on_cpu = ours.model.device.type == "cpu"
        theirs = find_checkpoint(source, name=name, device=device, dtype="float32" if on_cpu else dtype)
        if model is None:
            ours, theirs = (replace(checkpoint, end_tokens=frozenset()) for checkpoint in (ours, theirs))
        yield TrocrRecognizer(ours), theirs


def _tasks(*, forced: bool) -> list[Task]:
    pictures = list(real_lines().values())
    return [
        Task(pixels=pictures[index % len(pictures)], tokens=length if forced else None)
        for index, length in enumerate(_LENGTHS)
    ]


def _in_turns(
    ways: Mapping[str, tuple[Way, Sequence[Task]]], rounds: int
) -> tuple[dict[str, list[Tokens]], dict[str, Timing]]:
    """Let each way read in each round, after a small warm-up; what each read, and how long it took."""
    for way, tasks in ways.values():
        way(tasks[:2])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    read: dict[str, list[Tokens]] = {}
    for _ in range(rounds):
        for name, (way, tasks) in ways.items():
            started = time.perf_counter()
            read[name] = way(tasks)
            seconds[name].append((time.perf_counter() - started) / len(tasks))
    return read, {name: Timing(way=name, seconds=taken) for name, taken in seconds.items()}


def _ours(recognizer: TrocrRecognizer, tasks: Sequence[Task]) -> list[Tokens]:
    desk = _Desk(recognizer)
    for index, task in enumerate(tasks):
        desk.submit(str(index), task, Priority.NORMAL)
    desk.read_all()
    return [desk.read[str(index)].tokens for index in range(len(tasks))]


class _Desk:
    """The service's own batcher, whose turns are made here, and what it has read."""

    def __init__(self, recognizer: TrocrRecognizer) -> None:
        self.read: dict[str, Recognition] = {}
        #: When each line had been read.
        self.read_at: dict[str, float] = {}
        self.batcher = Batcher(
            recognizer,
            on_start=_ignored,
            on_settled=_ignored,
            on_read=self._on_read,
            on_failed=_raised,
            observer=PrometheusObserver(recognizer.card.name, rows=recognizer.rows),
        )

    def submit(self, key: str, task: Task, priority: Priority) -> None:
        request = LineRequest(pixels=task.pixels, max_new_tokens=task.tokens)
        self.batcher.submit(QueuedLine(key=key, request=request, priority=priority, job_id="job", alone=False))

    def read_all(self) -> None:
        while self.batcher.backlog or self.batcher.in_rows:
            self.batcher.turn()

    def _on_read(self, line: QueuedLine, recognition: Recognition) -> None:
        self.read[line.key] = recognition
        self.read_at[line.key] = time.perf_counter()


def _ignored(*_: object) -> None:
    pass


def _raised(line: QueuedLine, error: Exception) -> None:
    raise RuntimeError(f"line {line.key} was not read") from error


def _shipped(checkpoint: Checkpoint, tasks: Sequence[Task]) -> list[Tokens]:
    return [tokens for task in tasks for tokens in _generated(checkpoint, [task], use_cache=False)]


def _tuned(checkpoint: Checkpoint, tasks: Sequence[Task]) -> list[Tokens]:
    size = _STATIC_BATCH[checkpoint.model.device.type]
    batches = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    return [tokens for batch in batches for tokens in _generated(checkpoint, batch, use_cache=True)]


def _generated(checkpoint: Checkpoint, tasks: Sequence[Task], *, use_cache: bool) -> list[Tokens]:
    model: Any = checkpoint.model
    wanted = [task.tokens for task in tasks]
    limits = [tokens or checkpoint.max_new_tokens for tokens in wanted]
    forced: dict[str, Any] = {}
    if None not in wanted:
        forced = {"eos_token_id": None, "stopping_criteria": StoppingCriteriaList([_EachAtItsLength(limits)])}
    with torch.inference_mode():
        ids = model.generate(
            checkpoint.preprocessed([task.pixels for task in tasks]),
            max_new_tokens=max(limits),
            num_beams=1,
            do_sample=False,
            use_cache=use_cache,
            **forced,
        )
    return [_cut(row[1:], limit, checkpoint.end_tokens) for row, limit in zip(ids.tolist(), limits, strict=True)]


class _EachAtItsLength(StoppingCriteria):
    """Ends each line of a batch at its own number of tokens."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = torch.tensor(lengths)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        del scores
        return input_ids.shape[1] - 1 >= self._lengths.to(input_ids.device)


def _cut(tokens: Sequence[int], limit: int, ends: frozenset[int]) -> Tokens:
    """A row without what follows its end."""
    end = next((index + 1 for index, token in enumerate(tokens) if token in ends), len(tokens))
    return tuple(tokens[: min(end, limit)])


def _share_of_same(read: Mapping[str, Sequence[Tokens]]) -> float:
    """The share of lines for which all ways give the same tokens."""
    pairs = [
        ours == other for name in ("shipped", "tuned") for ours, other in zip(read["ours"], read[name], strict=False)
    ]
    return sum(pairs) / len(pairs)


def _short_line_share(recognizer: TrocrRecognizer) -> float:
    """The time of a 5-token line that joins fifteen of 60 tokens, as a share of theirs."""
    pixels = next(iter(real_lines().values()))
    desk = _Desk(recognizer)
    long_lines = [f"long{number}" for number in range(15)]
    started = time.perf_counter()
    for key in long_lines:
        desk.submit(key, Task(pixels=pixels, tokens=60), Priority.INTERACTIVE)
    while desk.batcher.backlog:
        desk.batcher.turn()
    joined = time.perf_counter()
    desk.submit("short", Task(pixels=pixels, tokens=5), Priority.INTERACTIVE)
    desk.read_all()
    return (desk.read_at["short"] - joined) / (max(desk.read_at[key] for key in long_lines) - started)


def _share_of_roofline(recognizer: TrocrRecognizer, lines_per_s: float) -> float:
    """The encoder's products of so many lines a second, as a share of what the device multiplies at these sizes."""
    from torch.utils.flop_counter import FlopCounterMode

    checkpoint = recognizer.checkpoint
    pixel_values = checkpoint.preprocessed([next(iter(real_lines().values()))])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        states = checkpoint.model.encoder(pixel_values=pixel_values).last_hidden_state
    rows, width = 64 * states.shape[1], states.shape[2]
    left = torch.randn(rows, width, device=states.device, dtype=torch.bfloat16)
    right = torch.randn(width, 4 * width, device=states.device, dtype=torch.bfloat16)
    for _ in range(10):
        left @ right
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(100):
        left @ right
    torch.cuda.synchronize()
    multiplied_per_s = 100 * 2 * rows * width * 4 * width / (time.perf_counter() - started)
    return float(lines_per_s * counter.get_total_flops() / multiplied_per_s)


def _figures(timings: Mapping[str, Timing], same: float, machine: Machine) -> dict[str, Any]:
    ours = timings["ours"].median_s
    return {
        "speedup_over_shipped": timings["shipped"].median_s / ours,
        "speedup_over_tuned": timings["tuned"].median_s / ours,
        "lines_per_s": 1 / ours,
        "seconds_per_line": {name: timing.seconds for name, timing in timings.items()},
        "same_tokens_share": same,
        "machine": asdict(machine),
    }


def _table(timings: Mapping[str, Timing], same: float) -> Table:
    table = Table("way", "ms a line", "spread", "lines/s", "ours is faster by", title="From pixels to token ids")
    ours = timings["ours"].median_s
    for name, timing in timings.items():
        spread = f"{min(timing.seconds) * 1e3:.1f} to {max(timing.seconds) * 1e3:.1f}"
        ratio = "" if name == "ours" else f"{timing.median_s / ours:.2f}"
        table.add_row(name, f"{timing.median_s * 1e3:.1f}", spread, f"{1 / timing.median_s:.2f}", ratio)
    table.caption = f"{same:.1%} of the lines have the same tokens in all"
    return table


if __name__ == "__main__":
    typer.run(main)
