"""What metering costs a job: the path of single-line and of 16-line jobs with and without it, side by side.

    python -m benchmarks.metering [--jobs N] [--json FILE]

Each job is submitted (files, rows, hold, tickets), claimed and finished (text, capture) against an embedded Postgres
and Valkey; no model, no HTTP. "Without" leaves out exactly what is there for credits: holds, captures, grants, caps,
room and queue limits. The two take turns within one run, and the share is that of the medians.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from unittest import mock

import typer
from rich.console import Console
from rich.table import Table

from cli.embedded_postgres import running_postgres
from cli.embedded_valkey import running_valkey
from core import accounts, claims, credits, identification, outcomes
from core.accounts import Caller
from core.database import migrate, transaction
from core.grants import Terms
from core.images import inspect_image
from core.intake import submit
from core.new_jobs import NewImage, NewJob
from core.outcomes import Outcome
from core.states import Mode, Priority
from core.transcript import BoundingBox, Line

_MODEL = "none"
_SAMPLE = Path("tests/data/line.jpg")
_ROUND_JOBS = 20
_METERING = (
    "core.credits.check_funds",
    "core.submissions.Standings",
    "core.credits.post",
    "core.stored_bytes.count_for_jobs",
    "core.admission.QueueWatch.check",
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds a job, medians over rounds."""

    lines: int
    with_ms: float
    without_ms: float

    @property
    def share(self) -> float:
        """The part of the path that metering takes."""
        return 1 - self.without_ms / self.with_ms


def main(
    jobs: Annotated[int, typer.Option(min=_ROUND_JOBS, help="Jobs of each kind.")] = 400,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
) -> None:
    """Measure, and print a table."""
    with _service() as caller:
        costs = [_measure(caller, lines, rounds=jobs // _ROUND_JOBS) for lines in (1, 16)]
    table = Table("lines a job", "ms with metering", "ms without", "metering's share")
    for cost in costs:
        table.add_row(str(cost.lines), f"{cost.with_ms:.2f}", f"{cost.without_ms:.2f}", f"{cost.share:.0%}")
    Console().print(table)
    if json_file:
        json_file.write_text(json.dumps([asdict(cost) | {"share": cost.share} for cost in costs], indent=2))


@contextmanager
def _service() -> Iterator[Caller]:
    with TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        os.environ |= {
            "DATABASE_URL": servers.enter_context(running_postgres(folder)),
            "REDIS_URL": servers.enter_context(running_valkey(folder)),
            "INKQUEUE_STORAGE_URL": f"file://{folder}/images",
        }
        migrate(os.environ["DATABASE_URL"])
        with transaction() as connection:
            account_id = accounts.ensure_account(connection, "benchmark")
            credits.grant(
                connection, account_id=account_id, amount_micro=10**12, reason="benchmark", terms=Terms(priority=1)
            )
            key = accounts.create_key(connection, account_id=account_id, name="benchmark")
            caller = identification.caller_of(connection, key)
        yield caller


def _measure(caller: Caller, lines: int, *, rounds: int) -> Cost:
    data = _SAMPLE.read_bytes()
    header = inspect_image(data, max_bytes=10**8, max_pixels=10**8)
    new = NewJob(
        model=_MODEL,
        mode=Mode.LINE,
        priority=Priority.NORMAL,
        max_lines=40,
        metadata={},
        images=[NewImage(data=data, header=header, key=None)] * lines,
    )

    def path() -> None:
        for _ in range(_ROUND_JOBS):
            submit(caller, new)
            outcomes.finish([_read(claim) for claim in claims.claim("wrk_1", _MODEL, most=lines)])

    path()
    with_ms, without_ms = [], []
    for _ in range(rounds):
        with_ms.append(_ms_a_job(path))
        with ExitStack() as stubs:
            for name in _METERING:
                stubs.enter_context(mock.patch(name))
            without_ms.append(_ms_a_job(path))
    return Cost(lines=lines, with_ms=statistics.median(with_ms), without_ms=statistics.median(without_ms))


def _ms_a_job(path: Callable[[], None]) -> float:
    began = time.perf_counter()
    path()
    return (time.perf_counter() - began) * 1000 / _ROUND_JOBS


def _read(claim: claims.Claim) -> Outcome:
    box = BoundingBox(xmin=0, ymin=0, xmax=1, ymax=1)
    line = Line(index=0, text="irlandais", confidence=0.9, bbox=box, flags=(), words=())
    return Outcome(image_id=claim.image_id, job_id=claim.job_id, attempt=claim.attempt, lines=(line,))


if __name__ == "__main__":
    typer.run(main)
