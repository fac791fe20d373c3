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
# The key's row waits for what the account's gives, so that the account is written, and locked, before it.
_JOB = text(
    """
    WITH of_account AS (
        UPDATE accounts SET stored_bytes = stored_bytes + :change WHERE id = :account RETURNING stored_bytes
    ), of_key AS (
        UPDATE api_keys SET stored_bytes = api_keys.stored_bytes + :change
        FROM of_account WHERE api_keys.id = :key RETURNING api_keys.stored_bytes)
    SELECT of_account.stored_bytes, coalesce(of_key.stored_bytes, 0)
    FROM of_account LEFT JOIN of_key ON true
    """
)


def count_for_job(connection: Connection, account_id: str, key_id: str, change_bytes: int) -> tuple[int, int]:
    """Count bytes that a job stores, or, where negative, no longer does; return the totals of its account and its key.

    A key that is not known has stored nothing.
    """
    row = connection.execute(_JOB, {"account": account_id, "key": key_id, "change": change_bytes}).one()
    return row[0], row[1]


def count_for_account(connection: Connection, account_id: str, change_bytes: int) -> int:
    """The same for what no key's job stores; return the account's total."""
    return connection.execute(_ACCOUNT, {"owner": account_id, "change": change_bytes}).scalar_one()


def stored_now(connection: Connection, account_id: str, key_id: str) -> tuple[int, int]:
    """What an account stores, and what the jobs of one of its keys do."""
    of_key = select(KeyRow.stored_bytes).where(KeyRow.id == key_id).scalar_subquery()
    row = connection.execute(
        select(AccountRow.stored_bytes, func.coalesce(of_key, 0).label("of_key")).where(AccountRow.id == account_id)
    ).one()
    return row.stored_bytes, row.of_key
