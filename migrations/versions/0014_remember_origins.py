"""Remember which request and which trace a job, a batch and a webhook come from."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"

_TABLES = ("jobs", "batches", "webhook_deliveries")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("origin", JSONB(), nullable=True))


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_column(table, "origin")
