"""Add how many beams the lines of a job are read with."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    for table in ("jobs", "images"):
        op.add_column(table, sa.Column("beams", sa.SmallInteger(), nullable=False, server_default="1"))


def downgrade() -> None:
    for table in ("images", "jobs"):
        op.drop_column(table, "beams")
