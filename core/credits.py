"""Money: an append-only ledger in integer micro-credits, and the running totals that follow from it.

The sign convention, stated here and nowhere else: an entry's amount is positive (an adjustment's may be negative), and
its kind says how it moves the account's balance and the part of the balance that running jobs hold. What can be spent
is balance - held, and is never below 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, bindparam, exists, select, text

from core import grants, key_totals, low_credits
from core.account_tables import AccountRow
from core.amounts import credits_of
from core.credit_tables import GrantRow
from core.database import any_of, looking, transaction
from core.errors import InsufficientCredits, NotFound
from core.grants import Payment, Terms


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

# Statements that run with every job are made once: making one costs about as much as sending it.
_TOTALS = select(AccountRow.balance_micro, AccountRow.held_micro).where(AccountRow.id == bindparam("account"))
# Not a full lock: rows that refer to the account by foreign key may still be inserted beside it.
_LOCKED_TOTALS = _TOTALS.with_for_update(key_share=True)
_LOCKED_TOTALS_AND_DUE = (
    select(
        AccountRow.id,
        AccountRow.balance_micro,
        AccountRow.held_micro,
        exists(GrantRow.id).where(GrantRow.account_id == AccountRow.id, grants.is_due()).label("due"),
    )
    .where(AccountRow.id == any_of("accounts"))
    .order_by(AccountRow.id.collate("C"))
    .with_for_update(of=AccountRow, key_share=True)
)
_MOVE_TOTALS = text(
    """
    WITH in_order AS MATERIALIZED (
        SELECT id FROM accounts WHERE id = ANY(CAST(:accounts AS text[])) ORDER BY id COLLATE "C" FOR NO KEY UPDATE)
    UPDATE accounts
    SET balance_micro = accounts.balance_micro + moved.balance_micro,
        held_micro = accounts.held_micro + moved.held_micro
    FROM unnest(CAST(:accounts AS text[]), CAST(:balance AS bigint[]), CAST(:held AS bigint[]))
        AS moved (id, balance_micro, held_micro)
    JOIN in_order ON in_order.id = moved.id
    WHERE accounts.id = moved.id
    RETURNING accounts.id, accounts.balance_micro, accounts.held_micro, accounts.low_credits_micro
    """
)
# Each gets the next id in the order of the arrays.
_WRITE = text(
    """
    INSERT INTO ledger (account_id, kind, amount_micro, job_id, image_id, key_id, reason, model, lines)
    SELECT * FROM unnest(
        CAST(:accounts AS text[]), CAST(:kinds AS text[]), CAST(:amounts AS bigint[]), CAST(:jobs AS text[]),
        CAST(:images AS text[]), CAST(:keys AS text[]), CAST(:reasons AS text[]), CAST(:models AS text[]),
        CAST(:lines AS bigint[]))
    RETURNING id
    """
)


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
    model: str | None = None
    #: How many lines a capture pays for.
    lines: int | None = None
    #: The grant that comes or expires by it.
    grant_id: str | None = None
    #: When the job was submitted that it is for.
    submitted_at: datetime | None = None

    @property
    def balance_change_micro(self) -> int:
        """How it moves the balance."""
        return EFFECT[self.kind][0] * self.amount_micro

    @property
    def held_change_micro(self) -> int:
        """How it moves the held part."""
        return EFFECT[self.kind][1] * self.amount_micro


@dataclass(frozen=True, kw_only=True)
class Credit:
    """An account's running totals, in micro-credits."""

    balance_micro: int
    held_micro: int

    @property
    def available_micro(self) -> int:
        """What can still be spent."""
        return self.balance_micro - self.held_micro


def post(connection: Connection, entries: Sequence[Entry]) -> bool:
    """Write entries and move the accounts' totals and grants by them; the accounts are locked from here to the commit.

    The caller's transaction does this last, since the account comes last in the order of locks.

    Returns:
        Whether a webhook is to warn of credits that have become few.
    """
    if not entries:
        return False
    ledger_ids = _write(connection, entries)
    balance: dict[str, int] = defaultdict(int)
    held: dict[str, int] = defaultdict(int)
    for entry in entries:
        balance[entry.account_id] += entry.balance_change_micro
        held[entry.account_id] += entry.held_change_micro
    warned = _move_accounts(connection, balance_micro=balance, held_micro=held)
    key_totals.move(connection, _key_changes(entries))
    _move_grants(connection, entries, ledger_ids)
    return warned


def _move_accounts(connection: Connection, *, balance_micro: Mapping[str, int], held_micro: Mapping[str, int]) -> bool:
    accounts = list(balance_micro)
    moved = connection.execute(
        _MOVE_TOTALS,
        {
            "accounts": accounts,
            "balance": [balance_micro[account_id] for account_id in accounts],
            "held": [held_micro[account_id] for account_id in accounts],
        },
    )
    warned = [
        low_credits.tell(
            connection,
            low_credits.Moved(
                account_id=row.id,
                balance_before_micro=row.balance_micro - balance_micro[row.id],
                balance_micro=row.balance_micro,
                held_micro=row.held_micro,
                own_threshold_micro=row.low_credits_micro,
            ),
        )
        for row in moved.all()
    ]
    return any(warned)


def _key_changes(entries: Sequence[Entry]) -> dict[str, key_totals.Change]:
    return {
        key_id: key_totals.Change(
            held_micro=sum(entry.held_change_micro for entry in entries if entry.key_id == key_id),
            captured_micro=sum(
                entry.amount_micro for entry in entries if entry.key_id == key_id and entry.kind is EntryKind.CAPTURE
            ),
        )
        for key_id in {entry.key_id for entry in entries if entry.key_id is not None}
    }


def _write(connection: Connection, entries: Sequence[Entry]) -> Sequence[int]:
    written = connection.execute(
        _WRITE,
        {
            "accounts": [entry.account_id for entry in entries],
            "kinds": [entry.kind.value for entry in entries],
            "amounts": [entry.amount_micro for entry in entries],
            "jobs": [entry.job_id for entry in entries],
            "images": [entry.image_id for entry in entries],
            "keys": [entry.key_id for entry in entries],
            "reasons": [entry.reason for entry in entries],
            "models": [entry.model for entry in entries],
            "lines": [entry.lines for entry in entries],
        },
    )
    return sorted(written.scalars())


def _move_grants(connection: Connection, entries: Sequence[Entry], ledger_ids: Sequence[int]) -> None:
    coming = [entry for entry in entries if entry.balance_change_micro > 0]
    if coming:
        grants.post(connection, [entry.grant_id or _correction(connection, entry) for entry in coming])
    payments = [
        Payment(
            ledger_id=ledger_id,
            account_id=entry.account_id,
            amount_micro=-entry.balance_change_micro,
            grant_id=entry.grant_id,
            submitted_at=entry.submitted_at,
        )
        for entry, ledger_id in zip(entries, ledger_ids, strict=True)
        if entry.balance_change_micro < 0
    ]
    if payments:
        grants.bear(connection, payments)


def _correction(connection: Connection, entry: Entry) -> str:
    """Credits that an operator's correction adds are spent like a grant without an end."""
    return grants.add(connection, entry.account_id, entry.amount_micro, Terms(), entry.reason or entry.kind.value)


def credit(connection: Connection, account_id: str, *, lock: bool = False) -> Credit:
    """The totals of an account.

    Args:
        connection: An open transaction.
        account_id: Whose.
        lock: Keep them from changing until the transaction ends.

    Raises:
        NotFound: There is no such account.
    """
    row = connection.execute(_LOCKED_TOTALS if lock else _TOTALS, {"account": account_id}).one_or_none()
    if row is None:
        raise NotFound("there is no such account")
    return Credit(balance_micro=row.balance_micro, held_micro=row.held_micro)


def check_hold(connection: Connection, *, account_id: str, key_id: str | None, amount_micro: int) -> None:
    """Judge whether so much more can be held; the account stays locked until the transaction ends.

    Raises:
        InsufficientCredits: Fewer are available.
        KeyBudgetExceeded: The key would pass its cap of this month.
    """
    check_available(settled(connection, [account_id])[account_id], amount_micro)
    if key_id is not None:
        key_totals.check_cap(key_totals.budget(connection, key_id), amount_micro)


def check_funds(account_id: str, needed_micro: int) -> None:
    """Judge whether an account can pay at this moment, without keeping it locked.

    Raises:
        InsufficientCredits: It cannot; the message tells spent credits from held ones.
    """
    with looking() as connection:
        have = credit(connection, account_id)
    if needed_micro > have.available_micro:
        with transaction() as connection:
            have = settled(connection, [account_id])[account_id]
    check_available(have, needed_micro)


def check_available(have: Credit, needed_micro: int) -> None:
    """Judge whether so much can be spent of these totals.

    Raises:
        InsufficientCredits: It cannot; the message tells spent credits from held ones.
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


def grant(
    connection: Connection, *, account_id: str, amount_micro: int, reason: str, terms: Terms | None = None
) -> str:
    """Give an account credits, from the terms' beginning to their end; return the grant's id.

    Raises:
        NotFound: There is no such account.
    """
    credit(connection, account_id, lock=True)
    grant_id = grants.add(connection, account_id, amount_micro, terms or Terms(), reason)
    settle(connection, account_id)
    return grant_id


def settle(connection: Connection, account_id: str) -> None:
    """Let the account's grants begin and end whose time has come."""
    credit(connection, account_id, lock=True)
    coming = grants.coming_into_effect(connection, account_id)
    post(connection, [_entry_of(account_id, EntryKind.GRANT, due) for due in coming])
    available_micro = credit(connection, account_id).available_micro
    over = grants.coming_to_an_end(connection, account_id, available_micro=available_micro)
    post(connection, [_entry_of(account_id, EntryKind.EXPIRE, due) for due in over])


def _entry_of(account_id: str, kind: EntryKind, due: grants.Due) -> Entry:
    return Entry(
        account_id=account_id, kind=kind, amount_micro=due.amount_micro, reason=due.reason, grant_id=due.grant_id
    )


def settled(connection: Connection, account_ids: Collection[str]) -> dict[str, Credit]:
    """The accounts' totals, locked in their order, with every grant in them that can be spent now, and no other."""
    # The sweeper settles every second; who submits just then must not spend what is over, nor miss what has begun.
    rows = connection.execute(_LOCKED_TOTALS_AND_DUE, {"accounts": list(account_ids)}).all()
    totals = {row.id: Credit(balance_micro=row.balance_micro, held_micro=row.held_micro) for row in rows}
    for account_id in (row.id for row in rows if row.due):
        settle(connection, account_id)
        totals[account_id] = credit(connection, account_id)
    return totals
