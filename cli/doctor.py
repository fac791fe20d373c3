"""`inkqueue doctor`: what is wrong with a service, and how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cli.database_option import reach_service
from cli.state_dir import DEFAULT_STATE_DIR
from core.checkup import check_all
from core.settings import settings


def doctor(
    state_dir: Annotated[
        Path, typer.Option(help="Folder of a running `inkqueue up`, where DATABASE_URL names no database.")
    ] = DEFAULT_STATE_DIR,
) -> None:
    """Look at every part of a running service; exit status 1 when one of them has to be mended."""
    # A running `inkqueue up` may have been told of other models than this terminal was.
    models = () if reach_service(state_dir) else settings().models
    console = Console(soft_wrap=True, highlight=False)
    wrong = 0
    for check in check_all(models):
        wrong += check.mend is not None
        sign = "[green]ok   [/]" if check.mend is None else "[bold red]wrong[/]"
        console.print(f"{sign}  {check.part:<10}  {escape(check.found)}")
        if check.mend is not None:
            console.print(f"       {'':<10}  [bold]{escape(check.mend)}[/]")
    if wrong:
        raise typer.Exit(1)
