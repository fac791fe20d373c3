"""The `inkqueue` command: starts the processes of the service, one of them or all, and tends accounts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from cli.accounts import accounts_commands, keys
from cli.audit import audit
from cli.commands import CLERK_COMMAND, COURIER_COMMAND, WORKER_COMMAND, api_command
from cli.credits import credits
from cli.doctor import doctor
from cli.retention import retention
from cli.secret_files import make_secrets
from cli.state_dir import DEFAULT_STATE_DIR
from core.errors import InkqueueError


class _Group(TyperGroup):
    """Says what went wrong in one sentence, with exit status 1, where a traceback would not help."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override] # Typer's own context is what it passes
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except InkqueueError as error:
            typer.echo(f"inkqueue: {error.message}", err=True)
        except ValidationError as error:
            for wrong in error.errors():
                setting = str(wrong["loc"][0])
                variable = setting if setting.isupper() else f"INKQUEUE_{setting.upper()}"
                typer.echo(f"inkqueue: {variable} is wrong: {wrong['msg']}", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=_Group,
    help="A self-hosted handwriting OCR service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(audit)
app.add_typer(accounts_commands, name="accounts")
app.add_typer(keys, name="keys")
app.add_typer(credits, name="credits")
app.command()(retention)
app.command()(doctor)
app.command("secrets")(make_secrets)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]


@app.command()
def up(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    state_dir: Annotated[
        Path, typer.Option(help="Folder of the database, the images and the first key.")
    ] = DEFAULT_STATE_DIR,
    model: Annotated[str | None, typer.Option(help="Default model: a bundled one, a hub id or a folder.")] = None,
) -> None:
    """Start the whole service in the foreground, with its own Postgres and Valkey, and read a sample line.

    DATABASE_URL and REDIS_URL name other servers instead. Ctrl-C ends everything.
    """
    from cli import up as whole

    whole.up(host=host, port=port, state_dir=state_dir, model=model)


@app.command()
def api(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Run the HTTP API."""
    _become(api_command(host, port))


@app.command()
def worker() -> None:
    """Run a worker: load the models and read lines."""
    _become(WORKER_COMMAND)


@app.command()
def courier() -> None:
    """Run a courier: give back what lost workers held, and repair what was lost between processes."""
    _become(COURIER_COMMAND)


@app.command()
def clerk() -> None:
    """Run a clerk: take batches from their file to their results."""
    _become(CLERK_COMMAND)


@app.command()
def migrate() -> None:
    """Bring the schema of the database up to date."""
    from core.database import migrate as bring_up_to_date
    from core.settings import settings

    bring_up_to_date(settings().database_url)


def _become(command: list[str]) -> None:
    """Replace this process, so that signals reach the program itself."""
    os.execv(command[0], command)


if __name__ == "__main__":
    app()
