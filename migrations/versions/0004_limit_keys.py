"""Give keys scopes, an end, a monthly cap and limits, and accounts a count of stored bytes.

Keys that are there may do what they always could. What they held and captured so far is not known by key, and starts
at nothing; what is already stored is counted from its jobs' images only from now on.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "api_keys",
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), server_default="{jobs,read,admin}", nullable=False),
    )
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("monthly_cap_micro", sa.BigInteger(), nullable=True))
    op.add_column("api_keys", sa.Column("held_micro", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("api_keys", sa.Column("limits", postgresql.JSONB(), server_default="{}", nullable=False))
    op.add_column("api_keys", sa.Column("previous_sha256", sa.LargeBinary(), nullable=True))
    op.add_column("api_keys", sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "api_keys_previous",
        "api_keys",
        ["previous_sha256"],
        unique=True,
        postgresql_where=sa.text("previous_sha256 IS NOT NULL"),
    )
    op.create_table(
        "key_months",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("captured_micro", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "month"),
    )
    op.add_column("accounts", sa.Column("stored_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("stored_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index(
        "jobs_in_flight",
        "jobs",
        ["account_id", "key_id"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )


def downgrade() -> None:
    op.drop_index("jobs_in_flight", "jobs")
    op.drop_column("jobs", "stored_bytes")
    op.drop_column("accounts", "stored_bytes")
    op.drop_table("key_months")
    op.drop_index("api_keys_previous", "api_keys")
    for column in (
        "previous_until",
        "previous_sha256",
        "limits",
        "held_micro",
        "monthly_cap_micro",
        "last_used_at",
        "expires_at",
        "scopes",
    ):
        op.drop_column("api_keys", column)
