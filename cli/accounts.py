"""`inkqueue keys` and `inkqueue credits`: what an operator does for accounts."""

from __future__ import annotations

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.state_dir import DEFAULT_STATE_DIR, running_database
from core import accounts
from core import credits as ledger
from core.database import transaction

DEFAULT_ACCOUNT = "default"


def _reach_database(
    state_dir: Annotated[
        Path, typer.Option(help="Folder of a running `inkqueue up`, where DATABASE_URL names no database.")
    ] = DEFAULT_STATE_DIR,
) -> None:
    url = running_database(state_dir)
    if url and not os.environ.get("DATABASE_URL"):
        os.environ["DATABASE_URL"] = url


keys = typer.Typer(no_args_is_help=True, callback=_reach_database, help="API keys: make, list, revoke.")
credits = typer.Typer(no_args_is_help=True, callback=_reach_database, help="Credits of accounts.")


@keys.command()
def create(
    account: Annotated[str, typer.Option(help="Whose key; the account is made if there is none.")] = DEFAULT_ACCOUNT,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
) -> None:
    """Make a key and print it; it is not shown again."""
    with transaction() as connection:
        account_id = accounts.ensure_account(connection, account)
        typer.echo(accounts.create_key(connection, account_id=account_id, name=name))


@keys.command("list")
def list_() -> None:
    """List all keys, oldest first."""
    table = Table("id", "account", "name", "ends in", "made", "revoked")
    with transaction() as connection:
        for key in accounts.list_keys(connection):
            revoked = f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
            table.add_row(key.id, key.account, key.name, key.last_four, f"{key.created_at:%Y-%m-%d %H:%M}", revoked)
    Console().print(table)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="As `inkqueue keys list` shows it.")]) -> None:
    """End a key at once."""
    with transaction() as connection:
        accounts.revoke_key(connection, key_id)
    typer.echo(f"{key_id} is revoked")


@credits.command()
def grant(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    amount: Annotated[str, typer.Argument(help="Credits, with at most 6 decimals.")],
    reason: Annotated[str, typer.Option(help="Stands in the ledger.")] = "granted by the operator",
) -> None:
    """Give an account credits."""
    amount_micro = _micro(amount)
    with transaction() as connection:
        account_id = accounts.account_named(connection, account)
        ledger.grant(connection, account_id=account_id, amount_micro=amount_micro, reason=reason)
        now = ledger.credit(connection, account_id)
    typer.echo(f"{account} has {ledger.credits_of(now.available_micro):f} credits available")


def _micro(amount: str) -> int:
    try:
        micro = Decimal(amount) * ledger.CREDIT_MICRO
    except InvalidOperation:
        raise typer.BadParameter(f"{amount} is not a number") from None
    if micro <= 0 or micro != int(micro) or micro >= 2**62:
        raise typer.BadParameter("credits are positive, with at most 6 decimals")
    return int(micro)
