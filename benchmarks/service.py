"""The whole service beside its recognizer: what HTTP, queue, storage and ledger cost, and how much passes through them.

    python -m benchmarks.service [--json FILE] [--grow] [--history JOBS ...]

Each figure comes from a service of its own: embedded Postgres and Valkey, API, courier and worker as processes, and the
load generator on the same cores.

- `share_of_recognizer`: lines a second of the service, in jobs of 16 and of one line, over those of the bare
  recognizer on the same pictures (the bundled TrOCR model, its rows always full); both take turns;
- `added_latency_ms`: from a request until its answer holds the text of one line, on an otherwise idle service, less
  what the recognizer alone takes for that line; medians of pairs;
- `jobs_per_s`, `lines_per_s`: jobs of one line, and lines in jobs of 64, with a recognizer that costs nothing
  (`benchmarks/costless_worker.py`). All else is real; a job counts when Postgres says that it succeeded.

Where the cores' time went stands beside each of the last two: core-milliseconds a line are nearly the same on a busy
machine, lines a second are not. Where the cores themselves become faster and slower, as in a virtual machine, rows are
compared by `loads`: all that a line costs over what it costs the load generator, whose work is always the same.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.bare_recognizer import BareRecognizer
from benchmarks.costless_worker import COSTLESS_MODEL
from benchmarks.job_history import write_ended_jobs
from benchmarks.load import job_request, send_all
from benchmarks.machine import this_machine
from benchmarks.running_service import RunningService, running_service
from cli.commands import WORKER_COMMAND
from tests.real_lines import line_files, real_lines

_MODEL = "trocr-tiny"
_ROUNDS = 3
#: Lines that each way reads in each round.
_LINES = 96
_LATENCY_PAIRS = 30
_LINES_A_JOB = 16
#: Jobs of a round, their lines, and over how many connections they come.
_SMALL, _LARGE = (900, 1, 32), (30, 64, 4)
_CUSTOMERS = 8
_PATIENCE_S = 300.0

_console = Console()


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """What passed through a service whose recognizer costs nothing: the median round."""

    lines_a_job: int
    jobs_per_s: float
    #: Core-milliseconds of each part of the service, a line.
    core_ms: Mapping[str, float]

    @property
    def all_core_ms(self) -> float:
        """Of all parts together, a line."""
        return sum(self.core_ms.values())

    @property
    def lines_per_s(self) -> float:
        """Lines rather than jobs."""
        return self.jobs_per_s * self.lines_a_job


def main(
    grow: Annotated[bool, typer.Option("--grow", help="Also with 2 and 4 processes of API and worker.")] = False,
    history: Annotated[list[int] | None, typer.Option(help="Also with so many ended jobs in the database.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Measure the service."""
    figures = _beside_the_recognizer()
    throughputs = {"1 process": _throughputs()}
    if grow:
        throughputs |= {f"{processes} processes": _throughputs(processes=processes) for processes in (2, 4)}
    throughputs |= {f"{jobs} ended jobs": _throughputs(ended_jobs=jobs) for jobs in history or ()}
    _console.print(_table(throughputs))
    small, large = throughputs["1 process"]
    figures |= {
        "jobs_per_s": round(small.jobs_per_s, 1),
        "lines_per_s": round(large.lines_per_s, 1),
        "throughput": {label: [asdict(each) for each in pair] for label, pair in throughputs.items()},
    }
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _beside_the_recognizer() -> dict[str, Any]:
    """How fast the service is beside the bare recognizer, and what it adds to the time of one line."""
    bare = BareRecognizer(_MODEL)
    machine = this_machine(bare.card)
    _console.print(machine.described)
    pixels, files = list(real_lines().values()), line_files()
    lines = [pixels[index % len(pixels)] for index in range(_LINES)]
    with running_service(WORKER_COMMAND, models=_MODEL) as service:
        jobs = {
            size: [
                job_request(
                    service.keys[0],
                    [files[(first + index) % len(files)] for index in range(size)],
                    model=_MODEL,
                    wait_s=60,
                )
                for first in range(0, _LINES, size)
            ]
            for size in (_LINES_A_JOB, 1)
        }
        ways: dict[str, Callable[[], None]] = {
            "bare": lambda: bare.read(lines),
            "jobs of 16": lambda: send_all(
                service.port, jobs[_LINES_A_JOB], times=_LINES // _LINES_A_JOB, connections=4
            ),
            "jobs of 1": lambda: send_all(service.port, jobs[1], times=_LINES, connections=_LINES_A_JOB),
        }
        rates = {way: _LINES / seconds for way, seconds in _medians(ways, _ROUNDS).items()}
        alone: dict[str, Callable[[], None]] = {
            "bare": lambda: bare.read(lines[:1]),
            "service": lambda: send_all(service.port, jobs[1][:1], times=1, connections=1),
        }
        latency = _medians(alone, _LATENCY_PAIRS)
    figures = {
        "machine": asdict(machine),
        "recognizer_lines_per_s": round(rates["bare"], 2),
        "share_of_recognizer": round(rates["jobs of 16"] / rates["bare"], 3),
        "share_of_recognizer_single": round(rates["jobs of 1"] / rates["bare"], 3),
        "added_latency_ms": round((latency["service"] - latency["bare"]) * 1000, 1),
    }
    _console.print(
        f"{_MODEL} alone reads {figures['recognizer_lines_per_s']} lines/s; the whole service "
        f"{figures['share_of_recognizer']} of that in jobs of {_LINES_A_JOB} lines, "
        f"{figures['share_of_recognizer_single']} in jobs of one. It adds {figures['added_latency_ms']} ms to one line."
    )
    return figures


def _medians(ways: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each way, the median of rounds in which all take turns, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def _throughputs(*, processes: int = 1, ended_jobs: int = 0) -> tuple[Throughput, Throughput]:
    """Of jobs of one line, and of jobs of 64."""
    worker = [sys.executable, "-m", "benchmarks.costless_worker"]
    with running_service(worker, models=COSTLESS_MODEL, customers=_CUSTOMERS, processes=processes) as service:
        if ended_jobs:
            send_all(service.port, _requests(service, 1), times=1, connections=1)
            service.wait_until_all_ended(timeout_s=_PATIENCE_S)
            write_ended_jobs(ended_jobs)
        return _throughput(service, *_SMALL), _throughput(service, *_LARGE)


def _requests(service: RunningService, lines: int) -> list[bytes]:
    return [job_request(key, line_files()[:1] * lines, model=COSTLESS_MODEL) for key in service.keys]


def _throughput(service: RunningService, jobs: int, lines: int, connections: int) -> Throughput:
    requests = _requests(service, lines)
    send_all(service.port, requests, times=len(requests), connections=connections)
    service.wait_until_all_ended(timeout_s=_PATIENCE_S)
    rounds = sorted(
        (_round(service, requests, jobs, lines, connections) for _ in range(_ROUNDS)),
        key=lambda throughput: throughput.jobs_per_s,
    )
    return rounds[_ROUNDS // 2]


def _round(service: RunningService, requests: Sequence[bytes], jobs: int, lines: int, connections: int) -> Throughput:
    succeeded, used = service.succeeded_jobs(), service.core_seconds()
    began = time.perf_counter()
    send_all(service.port, requests, times=jobs, connections=connections)
    service.wait_until_all_ended(timeout_s=_PATIENCE_S)
    seconds = time.perf_counter() - began
    core_ms = {
        part: round((total - used.get(part, 0.0)) * 1000 / jobs / lines, 4)
        for part, total in sorted(service.core_seconds().items())
    }
    if (read := service.succeeded_jobs() - succeeded) != jobs:
        raise SystemExit(f"{read} of {jobs} jobs succeeded")
    return Throughput(lines_a_job=lines, jobs_per_s=jobs / seconds, core_ms=core_ms)


def _table(throughputs: Mapping[str, tuple[Throughput, Throughput]]) -> Table:
    parts = list(throughputs["1 process"][0].core_ms)
    title = "A recognizer that costs nothing; core-milliseconds a line of each part"
    table = Table("", "lines a job", "jobs/s", "lines/s", *parts, "all", "loads", title=title)
    for label, pair in throughputs.items():
        for each in pair:
            spent = [f"{each.core_ms.get(part, 0.0):.2f}" for part in parts]
            rates = (f"{each.jobs_per_s:.1f}", f"{each.lines_per_s:.0f}")
            in_all = (f"{each.all_core_ms:.2f}", f"{each.all_core_ms / each.core_ms['load']:.0f}")
            table.add_row(label, str(each.lines_a_job), *rates, *spent, *in_all)
    return table


if __name__ == "__main__":
    typer.run(main)
