"""Add what callers ask of the reading of each image, and the tokens that it took."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("images", sa.Column("max_new_tokens", sa.BigInteger(), nullable=True))
    op.add_column("images", sa.Column("top_logprobs", sa.SmallInteger(), nullable=True))
    op.add_column("images", sa.Column("watched", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("lines", sa.Column("token_count", sa.BigInteger(), nullable=True))
    op.add_column("lines", sa.Column("pieces", JSONB(), nullable=True))


def downgrade() -> None:
    for column in ("pieces", "token_count"):
        op.drop_column("lines", column)
    for column in ("watched", "top_logprobs", "max_new_tokens"):
        op.drop_column("images", column)
