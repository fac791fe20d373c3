"""Find what leaves the log of webhooks, what is overdue, and what is being sent, however long log and backlog are."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_TABLE = "webhook_deliveries"


def upgrade() -> None:
    op.create_index(f"{_TABLE}_ended", _TABLE, ["ended_at"], postgresql_where=sa.text("ended_at IS NOT NULL"))
    op.create_index(f"{_TABLE}_overdue", _TABLE, ["due_at"], postgresql_where=sa.text("status = 'pending'"))
    op.create_index(f"{_TABLE}_claimed", _TABLE, ["target"], postgresql_where=sa.text("claimed_until IS NOT NULL"))


def downgrade() -> None:
    for index in ("claimed", "overdue", "ended"):
        op.drop_index(f"{_TABLE}_{index}", _TABLE)
