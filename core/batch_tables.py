"""Files, and the batches of requests that they hold."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.account_tables import AccountRow
from core.table_base import Base


class FileRow(Base):
    """A file of an account's; its bytes are in the storage, under its id."""

    __tablename__ = "files"
    __table_args__ = (
        Index("files_of_account", "account_id", "id"),
        Index("files_to_expire", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(AccountRow.id))
    purpose: Mapped[str]
    filename: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: None: kept until it is deleted.
    expires_at: Mapped[datetime | None]


class BatchRow(Base):
    """A file of requests that are read when there is time."""

    __tablename__ = "batches"
    __table_args__ = (
        Index("batches_of_account", "account_id", "id"),
        Index(
            "batches_open",
            "id",
            postgresql_where=text("status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(AccountRow.id))
    key_id: Mapped[str]
    endpoint: Mapped[str]
    input_file_id: Mapped[str]
    status: Mapped[str]
    caller_metadata: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    in_progress_at: Mapped[datetime | None]
    finalizing_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    expired_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    output_expires_after_s: Mapped[int | None]
    requests_total: Mapped[int] = mapped_column(server_default="0")
    requests_completed: Mapped[int] = mapped_column(server_default="0")
    requests_failed: Mapped[int] = mapped_column(server_default="0")
    #: Where the requests begin that have not been submitted: a byte of the file, and the number of its line, from 1.
    next_byte: Mapped[int] = mapped_column(server_default="0")
    next_line: Mapped[int] = mapped_column(server_default="1")
    output_file_id: Mapped[str | None]
    error_file_id: Mapped[str | None]
    #: Why the file is no batch.
    errors: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    #: The request and the trace that it came with.
    origin: Mapped[dict[str, Any] | None]


class BatchRequestRow(Base):
    """One line of a batch's file that was submitted, or failed."""

    __tablename__ = "batch_requests"
    __table_args__ = (Index("batch_requests_open", "batch_id", "job_id", postgresql_where=text("outcome = 'open'")),)

    batch_id: Mapped[str] = mapped_column(ForeignKey(BatchRow.id, ondelete="CASCADE"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    custom_id: Mapped[str]
    #: The job that reads it, among others, and which of its images are this request's.
    job_id: Mapped[str | None]
    first_image: Mapped[int] = mapped_column(server_default="0")
    images: Mapped[int] = mapped_column(server_default="0")
    #: Why it was not submitted.
    error_status: Mapped[int | None] = mapped_column(SmallInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    outcome: Mapped[str] = mapped_column(server_default="open")
