"""How many bytes accounts and keys have stored: running totals, which the audit recomputes.

The account's comes before the key's, in the order in which both are locked everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import BigInteger, Connection, bindparam, text, update

from core.account_tables import AccountRow

# Statements that run with every job are made once: making one costs about as much as sending it.
_ACCOUNT = (
    update(AccountRow)
    .where(AccountRow.id == bindparam("owner"))
    .values(stored_bytes=AccountRow.stored_bytes + bindparam("change", type_=BigInteger))
    .returning(AccountRow.stored_bytes)
)
# The keys' rows wait for what the accounts' give, so that the accounts are written, and locked, before them.
_JOBS = text(
    """
    WITH changed AS (
        SELECT * FROM unnest(CAST(:accounts AS text[]), CAST(:keys AS text[]), CAST(:changes AS bigint[]))
            AS changed (account_id, key_id, stored_bytes)
    ), in_order AS MATERIALIZED (
        SELECT id FROM accounts WHERE id = ANY(CAST(:accounts AS text[])) ORDER BY id COLLATE "C" FOR NO KEY UPDATE
    ), of_accounts AS (
        UPDATE accounts SET stored_bytes = accounts.stored_bytes + sums.stored_bytes
        FROM (SELECT account_id, sum(stored_bytes) AS stored_bytes FROM changed GROUP BY account_id) sums
        JOIN in_order ON in_order.id = sums.account_id
        WHERE accounts.id = sums.account_id
        RETURNING accounts.id)
    UPDATE api_keys SET stored_bytes = api_keys.stored_bytes + changed.stored_bytes
    FROM changed JOIN of_accounts ON of_accounts.id = changed.account_id
    WHERE api_keys.id = changed.key_id
    """
)


def count_for_jobs(connection: Connection, changes: Mapping[tuple[str, str], int]) -> None:
    """Count bytes that jobs store, or, where negative, no longer do, by their account and key."""
    if changes:
        connection.execute(
            _JOBS,
            {
                "accounts": [account_id for account_id, _ in changes],
                "keys": [key_id for _, key_id in changes],
                "changes": list(changes.values()),
            },
        )


def count_for_account(connection: Connection, account_id: str, change_bytes: int) -> int:
    """Count bytes that an account stores, or no longer does, by no key's job; return the account's total."""
    return connection.execute(_ACCOUNT, {"owner": account_id, "change": change_bytes}).scalar_one()
