"""Proof on a live database that ledger, jobs, keys, grants and images agree: every row that does not is named.

Each check is one statement, and so looks at one moment; what running transactions do meanwhile is no finding.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from core.credits import EFFECT


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A row that does not agree with the others."""

    #: What is wrong, the same sentence for all of its kind.
    check: str
    #: The account, job, key, grant or entry.
    id: str
    #: What stands in the row, and what the others say; micro-credits or bytes.
    found: int
    expected: int


def _signed(position: int) -> str:
    """SQL: how an entry moves the balance (0) or the held part (1)."""
    cases = " ".join(f"WHEN '{kind.value}' THEN {effect[position]}" for kind, effect in EFFECT.items())
    return f"ledger.amount_micro * (CASE ledger.kind {cases} END)"


_SUM_BALANCE = f"coalesce(sum({_signed(0)}), 0)"
_SUM_HELD = f"coalesce(sum({_signed(1)}), 0)"
#: What an account's jobs and files take in the storage.
_STORED = """((SELECT coalesce(sum(jobs.stored_bytes), 0) FROM jobs
               WHERE jobs.account_id = accounts.id AND jobs.purged_at IS NULL)
              + (SELECT coalesce(sum(size_bytes), 0) FROM files WHERE files.account_id = accounts.id))"""

#: Each gives id, found and expected of all rows that disagree.
_CHECKS: dict[str, str] = {
    "an account's balance is not the sum of its entries": f"""
        SELECT accounts.id, max(balance_micro) AS found, {_SUM_BALANCE} AS expected
        FROM accounts LEFT JOIN ledger ON account_id = accounts.id
        GROUP BY accounts.id HAVING max(balance_micro) <> {_SUM_BALANCE}""",
    "an account's held part is not the sum of its entries": f"""
        SELECT accounts.id, max(held_micro) AS found, {_SUM_HELD} AS expected
        FROM accounts LEFT JOIN ledger ON account_id = accounts.id
        GROUP BY accounts.id HAVING max(held_micro) <> {_SUM_HELD}""",
    "an account holds something else than its jobs": """
        SELECT accounts.id, max(accounts.held_micro) AS found, coalesce(sum(jobs.held_micro), 0) AS expected
        FROM accounts LEFT JOIN jobs ON account_id = accounts.id
        GROUP BY accounts.id HAVING max(accounts.held_micro) <> coalesce(sum(jobs.held_micro), 0)""",
    "an account's balance is not what is left of its grants": """
        SELECT accounts.id, max(balance_micro) AS found, coalesce(sum(remaining_micro), 0) AS expected
        FROM accounts LEFT JOIN credit_grants ON account_id = accounts.id AND posted_at IS NOT NULL
        GROUP BY accounts.id HAVING max(balance_micro) <> coalesce(sum(remaining_micro), 0)""",
    "what is left of a grant is not its amount less what it paid": """
        SELECT credit_grants.id, max(remaining_micro) AS found,
               max(credit_grants.amount_micro) - coalesce(sum(grant_spends.amount_micro), 0) AS expected
        FROM credit_grants LEFT JOIN grant_spends ON grant_id = credit_grants.id
        GROUP BY credit_grants.id
        HAVING max(remaining_micro) <> max(credit_grants.amount_micro) - coalesce(sum(grant_spends.amount_micro), 0)""",
    # Entries from before the account's first grant was written down were borne by none.
    "an entry that lowers the balance is not borne by grants": f"""
        SELECT ledger.id::text AS id, coalesce(sum(grant_spends.amount_micro), 0) AS found,
               max(-({_signed(0)})) AS expected
        FROM ledger LEFT JOIN grant_spends ON ledger_id = ledger.id
        WHERE {_signed(0)} < 0 AND ledger.created_at >= (
            SELECT min(created_at) FROM credit_grants WHERE credit_grants.account_id = ledger.account_id)
        GROUP BY ledger.id HAVING coalesce(sum(grant_spends.amount_micro), 0) <> max(-({_signed(0)}))""",
    "a job's held part is not the sum of its entries": f"""
        SELECT jobs.id, max(held_micro) AS found, {_SUM_HELD} AS expected
        FROM jobs LEFT JOIN ledger ON job_id = jobs.id
        GROUP BY jobs.id HAVING max(held_micro) <> {_SUM_HELD}""",
    "a job's charge is not the sum of its captures": """
        SELECT jobs.id, max(charged_micro) AS found, coalesce(sum(amount_micro), 0) AS expected
        FROM jobs LEFT JOIN ledger ON job_id = jobs.id AND kind = 'capture'
        GROUP BY jobs.id HAVING max(charged_micro) <> coalesce(sum(amount_micro), 0)""",
    "a job's charge is not its lines at its price": """
        SELECT id, charged_micro AS found, lines_charged * line_price_micro AS expected
        FROM jobs WHERE charged_micro <> lines_charged * line_price_micro""",
    "a job holds something else than its unfinished images": """
        SELECT jobs.id, max(jobs.held_micro) AS found, coalesce(sum(images.held_micro), 0) AS expected
        FROM jobs LEFT JOIN images ON job_id = jobs.id AND images.status IN ('queued', 'running')
        GROUP BY jobs.id HAVING max(jobs.held_micro) <> coalesce(sum(images.held_micro), 0)""",
    "an image was charged that was not read": """
        SELECT images.id, sum(amount_micro) AS found, 0 AS expected
        FROM images JOIN ledger ON image_id = images.id AND kind = 'capture'
        WHERE images.status <> 'succeeded' GROUP BY images.id""",
    "credits are held for a job that is not there": f"""
        SELECT job_id AS id, {_SUM_HELD} AS found, 0 AS expected
        FROM ledger LEFT JOIN jobs ON jobs.id = job_id
        WHERE job_id IS NOT NULL AND jobs.id IS NULL GROUP BY job_id HAVING {_SUM_HELD} <> 0""",
    "a key's held part is not the sum of its entries": f"""
        SELECT api_keys.id, max(held_micro) AS found, {_SUM_HELD} AS expected
        FROM api_keys LEFT JOIN ledger ON key_id = api_keys.id
        GROUP BY api_keys.id HAVING max(held_micro) <> {_SUM_HELD}""",
    "a key's month is not the sum of its captures": """
        SELECT coalesce(key_months.key_id, summed.key_id) AS id, coalesce(captured_micro, 0) AS found,
               coalesce(summed.micro, 0) AS expected
        FROM key_months FULL JOIN (
            SELECT key_id, date_trunc('month', timezone('UTC', created_at))::date AS month, sum(amount_micro) AS micro
            FROM ledger WHERE kind = 'capture' AND key_id IS NOT NULL GROUP BY 1, 2) summed
          ON summed.key_id = key_months.key_id AND summed.month = key_months.month
        WHERE coalesce(captured_micro, 0) <> coalesce(summed.micro, 0)""",
    "an account's stored bytes are not those of its jobs and files": f"""
        SELECT id, accounts.stored_bytes AS found, {_STORED} AS expected
        FROM accounts WHERE accounts.stored_bytes <> {_STORED}""",
    "a key's stored bytes are not those of its jobs": """
        SELECT api_keys.id, max(api_keys.stored_bytes) AS found, coalesce(sum(jobs.stored_bytes), 0) AS expected
        FROM api_keys LEFT JOIN jobs ON key_id = api_keys.id AND purged_at IS NULL
        GROUP BY api_keys.id HAVING max(api_keys.stored_bytes) <> coalesce(sum(jobs.stored_bytes), 0)""",
}

# What may be written anew from the ledger, which itself is never changed.
_REPAIRS = (
    f"""
    UPDATE accounts SET balance_micro = summed.balance, held_micro = summed.held
    FROM (SELECT account_id, {_SUM_BALANCE} AS balance, {_SUM_HELD} AS held FROM ledger GROUP BY 1) summed
    WHERE summed.account_id = accounts.id AND (balance_micro <> summed.balance OR held_micro <> summed.held)""",
    f"""
    UPDATE jobs SET held_micro = summed.held
    FROM (SELECT job_id, {_SUM_HELD} AS held FROM ledger WHERE job_id IS NOT NULL GROUP BY 1) summed
    WHERE summed.job_id = jobs.id AND jobs.status NOT IN ('queued', 'running') AND held_micro <> summed.held""",
    f"""
    UPDATE api_keys SET held_micro = summed.held
    FROM (SELECT api_keys.id, {_SUM_HELD} AS held FROM api_keys LEFT JOIN ledger ON key_id = api_keys.id
          GROUP BY 1) summed
    WHERE summed.id = api_keys.id AND held_micro <> summed.held""",
    "DELETE FROM key_months",
    """
    INSERT INTO key_months (key_id, month, captured_micro)
    SELECT key_id, date_trunc('month', timezone('UTC', created_at))::date, sum(amount_micro)
    FROM ledger WHERE kind = 'capture' AND key_id IS NOT NULL GROUP BY 1, 2""",
    """
    UPDATE credit_grants SET remaining_micro = summed.remaining
    FROM (SELECT credit_grants.id,
                 max(credit_grants.amount_micro) - coalesce(sum(grant_spends.amount_micro), 0) AS remaining
          FROM credit_grants LEFT JOIN grant_spends ON grant_id = credit_grants.id GROUP BY 1) summed
    WHERE summed.id = credit_grants.id AND remaining_micro <> summed.remaining""",
    f"UPDATE accounts SET stored_bytes = {_STORED} WHERE accounts.stored_bytes <> {_STORED}",
    """
    UPDATE api_keys SET stored_bytes = summed.bytes
    FROM (SELECT api_keys.id, coalesce(sum(jobs.stored_bytes), 0) AS bytes
          FROM api_keys LEFT JOIN jobs ON key_id = api_keys.id AND purged_at IS NULL GROUP BY 1) summed
    WHERE summed.id = api_keys.id AND api_keys.stored_bytes <> summed.bytes""",
)


def audit(connection: Connection) -> list[Finding]:
    """Every row that disagrees; none, when all is well."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    return [
        Finding(check=check, id=row.id, found=int(row.found), expected=int(row.expected))
        for check, query in _CHECKS.items()
        for row in connection.execute(text(query))
    ]


def repair(connection: Connection) -> None:
    """Write the running totals anew from the ledger; nobody submits or ends an image meanwhile."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    # Writers of the totals come with a ledger row, always: they wait here, and readers do not.
    connection.execute(text("LOCK TABLE ledger IN SHARE ROW EXCLUSIVE MODE"))
    for statement in _REPAIRS:
        connection.execute(text(statement))
