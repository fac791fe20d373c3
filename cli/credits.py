"""`inkqueue credits`: give credits, look at what is left, read the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.amounts import micro_credits
from cli.database_option import reach_database
from core import accounts, grants
from core import credits as ledger
from core.amounts import credits_of
from core.database import transaction
from core.grants import Category, Terms
from core.ledger_views import EntryView, list_entries

credits = typer.Typer(
    no_args_is_help=True, callback=reach_database, help="Credits of accounts: grant, balance, ledger."
)

Account = Annotated[str, typer.Argument(help="The account's name.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="In UTC.")]


@credits.command()
def grant(
    account: Account,
    amount: Annotated[str, typer.Argument(help="Credits, with at most 6 decimals.")],
    reason: Annotated[str, typer.Option(help="Stands in the ledger.")] = "granted by the operator",
    category: Annotated[Category, typer.Option(help="Gifts are spent before what was paid for.")] = Category.PAID,
    priority: Annotated[int, typer.Option(min=-1000, max=1000, help="Lower pays first, among equal ends.")] = 0,
    effective: Day = None,
    expires: Day = None,
) -> None:
    """Give an account credits, from now or `--effective` on, for ever or until `--expires`."""
    amount_micro = micro_credits(amount)
    terms = Terms(category=category, priority=priority, effective_at=_utc(effective), expires_at=_utc(expires))
    with transaction() as connection:
        account_id = accounts.account_named(connection, account)
        ledger.grant(connection, account_id=account_id, amount_micro=amount_micro, reason=reason, terms=terms)
        now = ledger.credit(connection, account_id)
    typer.echo(f"{account} has {_shown(now.available_micro)} credits available")


@credits.command()
def balance(account: Account) -> None:
    """Show what an account has, and the grants that it comes from, in the order in which they pay."""
    table = Table("grant", "category", "left", "of", "from", "until", "reason")
    with transaction() as connection:
        account_id = accounts.account_named(connection, account)
        now = ledger.credit(connection, account_id)
        for found in grants.left(connection, account_id):
            amounts = (_shown(found.remaining_micro), _shown(found.amount_micro))
            until = _moment(found.expires_at) if found.expires_at else "for ever"
            table.add_row(found.id, found.category, *amounts, _moment(found.effective_at), until, found.reason)
    available = _shown(now.available_micro)
    typer.echo(f"balance {_shown(now.balance_micro)}, held {_shown(now.held_micro)}, available {available}")
    Console().print(table)


@credits.command("ledger")
def show_ledger(
    account: Account,
    entries: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 50,
) -> None:
    """Show an account's newest ledger entries."""
    table = Table("id", "when", "kind", "credits", "job", "image", "reason")
    with transaction() as connection:
        account_id = accounts.account_named(connection, account)
        for entry in list_entries(connection, account_id, before=None, most=entries):
            table.add_row(*_cells(entry))
    Console().print(table)


def _cells(entry: EntryView) -> tuple[str, ...]:
    where = (entry.job_id or "", entry.image_id or "", entry.reason or "")
    return (str(entry.id), _moment(entry.created_at), entry.kind, _shown(entry.amount_micro), *where)


def _shown(amount_micro: int) -> str:
    return f"{credits_of(amount_micro):f}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None
