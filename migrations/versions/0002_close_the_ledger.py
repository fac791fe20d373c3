"""Close the ledger against changes; give each grant its terms, and a row for what it paid.

An account's balance at this moment becomes one grant without an end, since nobody wrote down which grant paid before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_CLOSED = ("ledger", "grant_spends")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "credit_grants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("amount_micro", sa.BigInteger(), nullable=False),
        sa.Column("remaining_micro", sa.BigInteger(), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "remaining_micro >= 0 AND remaining_micro <= amount_micro", name="credit_grants_remaining_within_amount"
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "credit_grants_with_something_left",
        "credit_grants",
        ["account_id"],
        postgresql_where=sa.text("remaining_micro > 0"),
    )
    op.create_table(
        "grant_spends",
        sa.Column("ledger_id", sa.BigInteger(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("amount_micro", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["ledger_id"], ["ledger.id"]),
        sa.ForeignKeyConstraint(["grant_id"], ["credit_grants.id"]),
        sa.PrimaryKeyConstraint("ledger_id", "grant_id"),
    )
    op.execute(
        """
        INSERT INTO credit_grants
            (id, account_id, category, priority, amount_micro, remaining_micro, reason, posted_at)
        SELECT 'grt_' || substr(id, 5), id, 'promotional', 0, balance_micro, balance_micro, 'carried over', now()
        FROM accounts WHERE balance_micro > 0
        """
    )
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    for table in _CLOSED:
        op.execute(
            f"CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    for table in _CLOSED:
        op.execute(f"DROP TRIGGER {table}_is_append_only ON {table}")
    op.execute("DROP FUNCTION refuse_change()")
    op.drop_table("grant_spends")
    op.drop_table("credit_grants")
    op.drop_column("accounts", "suspended_at")
