"""Add what jobs retry, when they expire, and how long accounts keep them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("retry_of", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "jobs_with_deadline",
        "jobs",
        ["deadline_at"],
        postgresql_where=sa.text("deadline_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "jobs_kept", "jobs", ["account_id", "finished_at"], postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.add_column("accounts", sa.Column("retention_days", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("accounts", "retention_days")
    for index in ("jobs_kept", "jobs_with_deadline"):
        op.drop_index(index, "jobs")
    for column in ("deadline_at", "retry_of"):
        op.drop_column("jobs", column)
