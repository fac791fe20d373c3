"""How many bytes accounts and keys have stored: running totals, which the audit recomputes.

The account's comes before the key's, in the order in which both are locked everywhere.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, bindparam, func, select, text, update

from core.account_tables import AccountRow, KeyRow

# Statements that run with every job are made once: making one costs about as much as sending it.
_ACCOUNT = (
    update(AccountRow)
    .where(AccountRow.id == bindparam("owner"))
    .values(stored_bytes=AccountRow.stored_bytes + bindparam("change", type_=BigInteger))
    .returning(AccountRow.stored_bytes)
)
_KEY = (
    update(KeyRow)
    .where(KeyRow.id == bindparam("owner"))
    .values(stored_bytes=KeyRow.stored_bytes + bindparam("change", type_=BigInteger))
    .returning(KeyRow.stored_bytes)
)


# `credits.hold` has locked the account by then, so that it does not matter which of the two is written first.
_JOB = text(
    """
    WITH of_account AS (
        UPDATE accounts SET stored_bytes = stored_bytes + :change WHERE id = :account RETURNING stored_bytes
    ), of_key AS (
        UPDATE api_keys SET stored_bytes = stored_bytes + :change WHERE id = :key RETURNING stored_bytes)
    SELECT of_account.stored_bytes, coalesce(of_key.stored_bytes, 0)
    FROM of_account LEFT JOIN of_key ON true
    """
)


def count_for_job(connection: Connection, account_id: str, key_id: str, stored_bytes: int) -> tuple[int, int]:
    """Count what a new job stores; return the totals of its account, which is locked already, and of its key."""
    row = connection.execute(_JOB, {"account": account_id, "key": key_id, "change": stored_bytes}).one()
    return row[0], row[1]


def count_for_account(connection: Connection, account_id: str, change_bytes: int) -> int:
    """Count bytes that an account stores, or, where negative, no longer does; return its total."""
    return connection.execute(_ACCOUNT, {"owner": account_id, "change": change_bytes}).scalar_one()


def count_for_key(connection: Connection, key_id: str, change_bytes: int) -> int:
    """The same for the jobs of a key; one that is not known has stored nothing."""
    return connection.execute(_KEY, {"owner": key_id, "change": change_bytes}).scalar_one_or_none() or 0


def stored_now(connection: Connection, account_id: str, key_id: str) -> tuple[int, int]:
    """What an account stores, and what the jobs of one of its keys do."""
    of_key = select(KeyRow.stored_bytes).where(KeyRow.id == key_id).scalar_subquery()
    row = connection.execute(
        select(AccountRow.stored_bytes, func.coalesce(of_key, 0).label("of_key")).where(AccountRow.id == account_id)
    ).one()
    return row.stored_bytes, row.of_key
