"""`inkqueue accounts` and `inkqueue keys`: who may use the service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.amounts import micro_credits
from cli.database_option import reach_database
from core import accounts, low_credits
from core.accounts import KeyTerms, Scope
from core.amounts import credits_of
from core.database import transaction

Name = Annotated[str, typer.Argument(help="The account's name.")]

accounts_commands = typer.Typer(
    no_args_is_help=True, callback=reach_database, help="Accounts: create, list, suspend, warn of low credits."
)
keys = typer.Typer(no_args_is_help=True, callback=reach_database, help="API keys: make, list, revoke.")

DEFAULT_ACCOUNT = "default"
_DEFAULT = "default"


@accounts_commands.command("create")
def create_account(name: Name) -> None:
    """Make an account with its sign-up grant; one of this name that is there stays as it is."""
    with transaction() as connection:
        typer.echo(accounts.ensure_account(connection, name))


@accounts_commands.command("list")
def list_accounts() -> None:
    """List all accounts, oldest first."""
    table = Table("id", "name", "balance", "held", "low below", "made", "suspended")
    with transaction() as connection:
        for account in accounts.list_accounts(connection):
            amounts = [f"{credits_of(micro):f}" for micro in (account.balance_micro, account.held_micro)]
            low = _DEFAULT if account.low_credits_micro is None else f"{credits_of(account.low_credits_micro):f}"
            suspended = f"{account.suspended_at:%Y-%m-%d %H:%M}" if account.suspended_at else ""
            table.add_row(account.id, account.name, *amounts, low, f"{account.created_at:%Y-%m-%d %H:%M}", suspended)
    Console().print(table)


@accounts_commands.command()
def suspend(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let the account in again.")] = False,
) -> None:
    """Refuse an account's keys at once; the jobs that it has submitted are read to their end."""
    with transaction() as connection:
        accounts.suspend(connection, accounts.account_named(connection, name), suspended=not undo)
    typer.echo(f"{name} is {'let in again' if undo else 'suspended'}")


@accounts_commands.command("low-credits")
def set_low_credits(
    name: Name,
    threshold: Annotated[str, typer.Argument(help="Credits; 0 for never; `default` as INKQUEUE_LOW_CREDITS says.")],
) -> None:
    """Warn an account by the webhook `credits.low` when its balance falls below so many credits."""
    threshold_micro = _threshold_micro(threshold)
    with transaction() as connection:
        low_credits.set_threshold(connection, accounts.account_named(connection, name), threshold_micro)
    if threshold_micro is None:
        typer.echo(f"{name} is warned as the service's setting says")
    else:
        typer.echo(f"{name} is " + (f"warned below {threshold} credits" if threshold_micro else "never warned"))


def _threshold_micro(threshold: str) -> int | None:
    if threshold == _DEFAULT:
        return None
    return 0 if threshold == "0" else micro_credits(threshold)


@keys.command()
def create(
    account: Annotated[str, typer.Option(help="Whose key; the account is made if there is none.")] = DEFAULT_ACCOUNT,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    scope: Annotated[
        Scope, typer.Option(help="What it may do: look; also submit and delete; also tend keys.")
    ] = Scope.ADMIN,
    monthly_cap: Annotated[
        str | None, typer.Option(help="Most credits that its jobs may cost in a calendar month (UTC).")
    ] = None,
    expires: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="In UTC.")] = None,
) -> None:
    """Make a key and print it; it is not shown again."""
    terms = KeyTerms(
        scopes=frozenset({scope}),
        monthly_cap_micro=micro_credits(monthly_cap) if monthly_cap else None,
        expires_at=expires.replace(tzinfo=UTC) if expires else None,
    )
    with transaction() as connection:
        account_id = accounts.ensure_account(connection, account)
        typer.echo(accounts.create_key(connection, account_id=account_id, name=name, terms=terms))


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
