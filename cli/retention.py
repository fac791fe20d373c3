"""`inkqueue retention`: how long an account's results are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.database_option import reach_database
from cli.state_dir import DEFAULT_STATE_DIR
from core.accounts import account_named
from core.database import transaction
from core.retention import set_retention

_DEFAULT = "default"


def retention(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    days: Annotated[str, typer.Argument(help="Days; 0 for ever; `default` as INKQUEUE_RETENTION_DAYS says.")],
    state_dir: Annotated[
        Path, typer.Option(help="Folder of a running `inkqueue up`, where DATABASE_URL names no database.")
    ] = DEFAULT_STATE_DIR,
) -> None:
    """Keep what an account's jobs and batches hold for so many days after their end; the ledger stays."""
    kept_days = None if days == _DEFAULT else _days(days)
    reach_database(state_dir)
    with transaction() as connection:
        set_retention(connection, account_named(connection, account), kept_days)
    if kept_days is None:
        typer.echo(f"{account} keeps its jobs as the service's setting says")
    else:
        typer.echo(f"{account} keeps its jobs " + (f"for {kept_days:g} days" if kept_days else "for ever"))


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is not a number of days") from None
    if not 0 <= days <= 100_000:
        raise typer.BadParameter("days are between 0 and 100000")
    return days
