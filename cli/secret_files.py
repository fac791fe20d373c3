"""`inkqueue secrets`: what nobody may guess, made once and kept in files that the settings are read from."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

_PASSWORD = "postgres_password"
_DATABASE = "postgresql+psycopg://inkqueue:{password}@{host}/inkqueue"


def make_secrets(
    folder: Annotated[Path, typer.Argument(help="Where; the folder of INKQUEUE_SECRETS_DIR.")],
    postgres_host: Annotated[str, typer.Option(help="Where Postgres is, as the service reaches it.")] = "postgres",
) -> None:
    """Make the secrets that a folder lacks: Postgres's password, its address with it, and the key of webhooks' secrets.

    POSTGRES_PASSWORD, where it is set, is the password; a new one changes nothing in a database that there is.
    """
    password = os.environ.get("POSTGRES_PASSWORD") or _read(folder / _PASSWORD) or secrets.token_urlsafe(32)
    write_private(folder / _PASSWORD, password)
    write_private(folder / "database_url", _DATABASE.format(password=quote(password, safe=""), host=postgres_host))
    if not _read(folder / "inkqueue_secret_key"):
        write_private(folder / "inkqueue_secret_key", secrets.token_urlsafe(32))


def write_private(path: Path, text: str) -> None:
    """Write a file whole, and to disk, readable for this user only from its first moment."""
    written = path.with_name(f"{path.name}.new")
    written.unlink(missing_ok=True)
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{text}\n")
        file.flush()
        # Postgres keeps its password through a power failure; with a file that did not, nobody would know it any more.
        os.fsync(file.fileno())
    written.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
