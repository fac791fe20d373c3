"""Count what is stored by key, for a limit of its own; warn accounts whose credits run low.

What the previous release stores while this runs counts for its account only; `inkqueue audit --repair` writes it down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("stored_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("accounts", sa.Column("low_credits_micro", sa.BigInteger(), nullable=True))
    op.execute(
        """
        UPDATE api_keys SET stored_bytes = summed.bytes
        FROM (SELECT key_id, sum(stored_bytes) AS bytes FROM jobs WHERE purged_at IS NULL GROUP BY key_id) summed
        WHERE summed.key_id = api_keys.id
        """
    )


def downgrade() -> None:
    op.drop_column("accounts", "low_credits_micro")
    op.drop_column("api_keys", "stored_bytes")
