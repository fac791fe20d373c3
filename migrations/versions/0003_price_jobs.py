"""Keep with a job what its lines cost, with a page what was found on it, with a capture what it was for.

The defaults are the only price that there was before, for rows that are there and for those that the previous release
still writes.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("line_price_micro", sa.BigInteger(), server_default="1000000", nullable=False))
    op.add_column("jobs", sa.Column("price_version", sa.Text(), server_default="first", nullable=False))
    op.add_column("images", sa.Column("layout", postgresql.JSONB(), nullable=True))
    op.add_column("ledger", sa.Column("lines", sa.BigInteger(), nullable=True))
    op.add_column("ledger", sa.Column("model", sa.Text(), nullable=True))
    op.create_index(
        "ledger_captures_of_account",
        "ledger",
        ["account_id", "created_at"],
        postgresql_where=sa.text("kind = 'capture'"),
    )
    op.create_index(
        "images_finished", "images", ["finished_at"], postgresql_using="brin", postgresql_with={"autosummarize": "on"}
    )
    # A page's hold is moved once more when its lines are found, and settled once at its end like any other.
    op.drop_index("ledger_once_an_image", "ledger")
    op.create_index(
        "ledger_once_an_image",
        "ledger",
        ["image_id", "kind"],
        unique=True,
        postgresql_where=sa.text("image_id IS NOT NULL AND reason IS DISTINCT FROM 'layout'"),
    )
    op.create_index(
        "ledger_one_layout_an_image",
        "ledger",
        ["image_id"],
        unique=True,
        postgresql_where=sa.text("reason = 'layout'"),
    )


def downgrade() -> None:
    op.drop_index("ledger_one_layout_an_image", "ledger")
    op.drop_index("ledger_once_an_image", "ledger")
    op.create_index(
        "ledger_once_an_image",
        "ledger",
        ["image_id", "kind"],
        unique=True,
        postgresql_where=sa.text("image_id IS NOT NULL"),
    )
    op.drop_index("images_finished", "images")
    op.drop_index("ledger_captures_of_account", "ledger")
    op.drop_column("ledger", "model")
    op.drop_column("ledger", "lines")
    op.drop_column("images", "layout")
    op.drop_column("jobs", "price_version")
    op.drop_column("jobs", "line_price_micro")
