"""Vacuum what serves as a queue early: whoever looks for what waits passes what has waited, until that is cleaned up."""

from alembic import op

revision = "0016"
down_revision = "0015"

_TABLES = ("images", "jobs", "webhook_deliveries")
#: A fifth of a table, Postgres's default, is millions of entries once years of jobs are kept: 300,000 dead ones made
#: a claim take 27 instead of 8 ms. And without the last, it leaves indexes alone where few pages have dead rows.
_SETTINGS = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_threshold": "1000",
    "vacuum_index_cleanup": "on",
}


def upgrade() -> None:
    given = ", ".join(f"{name} = {value}" for name, value in _SETTINGS.items())
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} SET ({given})")


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(_SETTINGS)})")
