"""`inkqueue audit`: prove that the money is right, or name what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.database_option import reach_database
from cli.state_dir import DEFAULT_STATE_DIR
from core import stale_holds
from core.audit import Finding, repair
from core.audit import audit as find_all
from core.database import transaction


def audit(
    state_dir: Annotated[
        Path, typer.Option(help="Folder of a running `inkqueue up`, where DATABASE_URL names no database.")
    ] = DEFAULT_STATE_DIR,
    fix: Annotated[
        bool, typer.Option("--repair", help="Release stale holds, and write totals anew from the ledger.")
    ] = False,
) -> None:
    """Compare ledger, jobs, keys and grants of a live database; exit status 1 when any row disagrees."""
    reach_database(state_dir)
    if fix:
        _repair()
    with transaction() as connection:
        findings = find_all(connection)
    for finding in findings:
        typer.echo(_sentence(finding))
    if findings:
        raise typer.Exit(1)
    typer.echo("ledger, jobs, keys and grants agree")


def _repair() -> None:
    with transaction() as connection:
        repair(connection)
    for hold in stale_holds.release_all():
        typer.echo(f"released {hold.amount_micro} micro-credits that were held for {hold.job_id}")


def _sentence(finding: Finding) -> str:
    return f"{finding.check}: {finding.id} has {finding.found}, expected {finding.expected}"
