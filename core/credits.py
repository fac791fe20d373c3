"""Money: an append-only ledger in integer micro-credits, and the running totals that follow from it.

The sign convention, stated here and nowhere else: an entry's amount is positive (an adjustment's may be negative), and
its kind says how it moves the account's balance and the part of the balance that running jobs hold. What can be spent
is balance - held, and is never below 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import Connection, insert, select, update

from core.errors import InsufficientCredits, NotFound
from core.tables import AccountRow, LedgerRow

#: Micro-credits in one credit.
CREDIT_MICRO = 1_000_000
#: What reading one line costs.
LINE_PRICE_MICRO = CREDIT_MICRO


class EntryKind(StrEnum):
    """Why credits moved."""

    #: Credits given to the account.
    GRANT = "grant"
    #: Credits set aside for a job when it is submitted.
    HOLD = "hold"
    #: Held credits spent on an image that was read.
    CAPTURE = "capture"
    #: Held credits set free again: failed, canceled, expired, blank.
    RELEASE = "release"
    #: Granted credits whose time is over.
    EXPIRE = "expire"
    #: An operator's correction, of either sign.
    ADJUST = "adjust"


#: (sign on the balance, sign on the held part) of each kind.
EFFECT = {
    EntryKind.GRANT: (1, 0),
    EntryKind.HOLD: (0, 1),
    EntryKind.CAPTURE: (-1, -1),
    EntryKind.RELEASE: (0, -1),
    EntryKind.EXPIRE: (-1, 0),
    EntryKind.ADJUST: (1, 0),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One movement, not yet written."""

    account_id: str
    kind: EntryKind
    amount_micro: int
    job_id: str | None = None
    image_id: str | None = None
    key_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Credit:
    """An account's running totals, in micro-credits."""

    balance_micro: int
    held_micro: int

    @property
    def available_micro(self) -> int:
        """What can still be spent."""
        return self.balance_micro - self.held_micro


def credits_of(amount_micro: int) -> Decimal:
    """Micro-credits in credits, exactly, with at most 6 decimals."""
    return Decimal(amount_micro) / CREDIT_MICRO


def post(connection: Connection, entries: Sequence[Entry]) -> None:
    """Write entries and move the accounts' totals by them; the accounts are locked from here to the commit.

    The caller's transaction does this last, since the account comes last in the order of locks.
    """
    if not entries:
        return
    connection.execute(
        insert(LedgerRow),
        [
            {
                "account_id": entry.account_id,
                "kind": entry.kind.value,
                "amount_micro": entry.amount_micro,
                "job_id": entry.job_id,
                "image_id": entry.image_id,
                "key_id": entry.key_id,
                "reason": entry.reason,
            }
            for entry in entries
        ],
    )
    balance: dict[str, int] = defaultdict(int)
    held: dict[str, int] = defaultdict(int)
    for entry in entries:
        balance_sign, held_sign = EFFECT[entry.kind]
        balance[entry.account_id] += balance_sign * entry.amount_micro
        held[entry.account_id] += held_sign * entry.amount_micro
    for account_id in sorted(balance):
        connection.execute(
            update(AccountRow)
            .where(AccountRow.id == account_id)
            .values(
                balance_micro=AccountRow.balance_micro + balance[account_id],
                held_micro=AccountRow.held_micro + held[account_id],
            )
        )


def credit(connection: Connection, account_id: str, *, lock: bool = False) -> Credit:
    """The totals of an account.

    Args:
        connection: An open transaction.
        account_id: Whose.
        lock: Keep them from changing until the transaction ends.

    Raises:
        NotFound: There is no such account.
    """
    query = select(AccountRow.balance_micro, AccountRow.held_micro).where(AccountRow.id == account_id)
    if lock:
        # Not a full lock: rows that refer to the account by foreign key may still be inserted beside it.
        query = query.with_for_update(key_share=True)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("there is no such account")
    return Credit(balance_micro=row.balance_micro, held_micro=row.held_micro)


def hold(connection: Connection, *, account_id: str, job_id: str, key_id: str | None, amount_micro: int) -> None:
    """Set credits aside for a job, judged under the account's lock.

    Raises:
        InsufficientCredits: Fewer are available.
    """
    check_available(credit(connection, account_id, lock=True), amount_micro)
    post(
        connection,
        [Entry(account_id=account_id, kind=EntryKind.HOLD, amount_micro=amount_micro, job_id=job_id, key_id=key_id)],
    )


def check_available(have: Credit, needed_micro: int) -> None:
    """Judge whether these totals can pay.

    Raises:
        InsufficientCredits: They cannot; the message tells spent credits from held ones.
    """
    if needed_micro <= have.available_micro:
        return
    amounts = (
        f"{credits_of(needed_micro)} needed, {credits_of(have.available_micro)} available "
        f"(balance {credits_of(have.balance_micro)}, held {credits_of(have.held_micro)})"
    )
    if needed_micro <= have.balance_micro:
        raise InsufficientCredits(f"running jobs hold the credits that this job needs; wait for them: {amounts}")
    raise InsufficientCredits(f"the account has too few credits: {amounts}")


def grant(connection: Connection, *, account_id: str, amount_micro: int, reason: str) -> None:
    """Give an account credits.

    Raises:
        NotFound: There is no such account.
    """
    credit(connection, account_id, lock=True)
    post(
        connection,
        [Entry(account_id=account_id, kind=EntryKind.GRANT, amount_micro=amount_micro, reason=reason)],
    )
