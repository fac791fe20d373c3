"""Add batches: files of requests that are read when there is time."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"

_TIMES = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("account_id", sa.Text(), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("input_file_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("caller_metadata", JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in _TIMES),
        sa.Column("output_expires_after_s", sa.BigInteger(), nullable=True),
        sa.Column("requests_total", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("requests_completed", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("requests_failed", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("next_byte", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("next_line", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("output_file_id", sa.Text(), nullable=True),
        sa.Column("error_file_id", sa.Text(), nullable=True),
        sa.Column("errors", JSONB(), nullable=True),
    )
    op.create_index("batches_of_account", "batches", ["account_id", "id"])
    op.create_index(
        "batches_open",
        "batches",
        ["id"],
        postgresql_where=sa.text("status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"),
    )
    op.create_table(
        "batch_requests",
        sa.Column("batch_id", sa.Text(), sa.ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("line", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("custom_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("first_image", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("images", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("error_status", sa.SmallInteger(), nullable=True),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False, server_default="open"),
    )
    op.create_index(
        "batch_requests_open", "batch_requests", ["batch_id", "job_id"], postgresql_where=sa.text("outcome = 'open'")
    )
    op.add_column("jobs", sa.Column("batch_id", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "batch_id")
    op.drop_table("batch_requests")
    op.drop_table("batches")
