"""Which database the commands that look after accounts work on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.state_dir import DEFAULT_STATE_DIR, running_service


def reach_database(
    state_dir: Annotated[
        Path, typer.Option(help="Folder of a running `inkqueue up`, where DATABASE_URL names no database.")
    ] = DEFAULT_STATE_DIR,
) -> None:
    """Name the database of a running `inkqueue up` to the settings, unless DATABASE_URL names one already."""
    reach_service(state_dir)


def reach_service(state_dir: Path) -> bool:
    """Name all that a running `inkqueue up` made for itself to the settings, unless DATABASE_URL names a database.

    Returns:
        Whether there is such a service.
    """
    found = {} if os.environ.get("DATABASE_URL") else running_service(state_dir)
    for variable, value in found.items():
        os.environ.setdefault(variable, value)
    return bool(found)
