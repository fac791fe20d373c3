"""Who works: the leases of workers, and the rounds of couriers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import SmallInteger, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.table_base import Base


class WorkerRow(Base):
    """A worker's lease: alive until `expires_at` on Postgres's clock."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    models: Mapped[list[Any]] = mapped_column(JSONB)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class SweepRow(Base):
    """When a courier last made its round: one row."""

    __tablename__ = "sweeps"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    swept_at: Mapped[datetime]
