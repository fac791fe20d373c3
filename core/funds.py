"""What a key can still spend: of its account's credits, and of its own cap."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from core import credits, key_totals
from core.accounts import Caller


@dataclass(frozen=True, kw_only=True)
class Funds:
    """What is there at this moment, judged without a lock."""

    #: What can be spent now.
    available_micro: int
    #: The same when nothing is held any more: at most, since most of what is held will be spent.
    in_all_micro: int


def funds_of(connection: Connection, caller: Caller) -> Funds:
    """What a caller can spend.

    Raises:
        NotFound: There is no such account.
    """
    credit = credits.credit(connection, caller.account_id)
    available, in_all = credit.available_micro, credit.balance_micro
    budget = key_totals.budget(connection, caller.key_id)
    if budget is not None:
        left = budget.cap_micro - budget.captured_micro
        available, in_all = min(available, left - budget.held_micro), min(in_all, left)
    return Funds(available_micro=available, in_all_micro=in_all)
