"""All tables together, since each part of `core/` imports only those that it uses."""

from core import (  # noqa: F401 - imported so that `Base` knows them
    account_tables,
    batch_tables,
    credit_tables,
    job_tables,
    webhook_tables,
    worker_tables,
)
from core.table_base import Base

__all__ = ["Base"]
