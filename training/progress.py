"""The progress bar of a run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from training.plan import TrainingPlan
from training.trainer import Progress


@contextmanager
def showing_progress(plan: TrainingPlan, *, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """Show minutes, lines and losses as they change, and a line for each evaluation."""
    columns = (BarColumn(), TextColumn("{task.fields[minutes]}"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, disable=not shown) as bar:
        task = bar.add_task("loading", total=1.0, minutes="")

        def report(progress: Progress) -> None:
            state = progress.state
            bar.update(
                task,
                completed=progress.spent,
                minutes=f"{state.minutes:.1f}/{plan.minutes:g} min",
                description=f"{state.lines} lines, CE {progress.cross_entropy:.2f}, CTC {progress.ctc:.2f}",
            )
            if progress.rates:
                bar.console.print(
                    f"{state.minutes:6.1f} min  {state.lines:8d} lines  CER {progress.rates.cer:.3f}  "
                    f"WER {progress.rates.wer:.3f}  kept {state.kept_cer:.3f}"
                )

        yield report
