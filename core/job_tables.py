"""Jobs, their images, and what was read in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.account_tables import AccountRow
from core.table_base import Base


class JobRow(Base):
    """What a caller asked for, and how far it is."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_of_account", "account_id", "id"),
        Index("jobs_in_flight", "account_id", "key_id", postgresql_where=text("status IN ('queued', 'running')")),
        Index("jobs_kept", "account_id", "finished_at", postgresql_where=text("deleted_at IS NULL")),
        Index(
            "jobs_with_deadline",
            "deadline_at",
            postgresql_where=text("deadline_at IS NOT NULL AND finished_at IS NULL"),
        ),
        Index("jobs_to_purge", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL AND purged_at IS NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(AccountRow.id))
    key_id: Mapped[str]
    status: Mapped[str]
    #: Rises with every change that a caller can see.
    version: Mapped[int] = mapped_column(server_default="1")
    model: Mapped[str]
    mode: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    max_lines: Mapped[int]
    caller_metadata: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    images_total: Mapped[int]
    images_done: Mapped[int] = mapped_column(server_default="0")
    images_succeeded: Mapped[int] = mapped_column(server_default="0")
    lines_done: Mapped[int] = mapped_column(server_default="0")
    lines_charged: Mapped[int] = mapped_column(server_default="0")
    held_micro: Mapped[int]
    charged_micro: Mapped[int] = mapped_column(server_default="0")
    #: The price in force when it was submitted, and the list that it comes from.
    line_price_micro: Mapped[int] = mapped_column(server_default="1000000")
    price_version: Mapped[str] = mapped_column(server_default="first")
    #: Of each line; its price counts them.
    beams: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    #: Of its image files.
    stored_bytes: Mapped[int] = mapped_column(server_default="0")
    deleted_at: Mapped[datetime | None]
    #: When the stored files of a deleted job were gone.
    purged_at: Mapped[datetime | None]
    #: Where this job's events go, beside the account's endpoints.
    webhook_url: Mapped[str | None]
    webhook_events: Mapped[list[str] | None]
    webhook_include_text: Mapped[bool] = mapped_column(server_default="false")
    #: The job whose unread images this one holds.
    retry_of: Mapped[str | None]
    #: What has not been started by then expires.
    deadline_at: Mapped[datetime | None]
    #: The batch whose requests it reads: then it is told of by the batch, and not by itself.
    batch_id: Mapped[str | None]
    #: The request and the trace that it came with: see `core/origin.py`.
    origin: Mapped[dict[str, Any] | None]


class ImageRow(Base):
    """One image of a job: what is claimed, read, charged."""

    __tablename__ = "images"
    __table_args__ = (
        Index("images_of_job", "job_id", "position", unique=True),
        Index(
            "images_waiting", "model", "priority", "account_id", "sequence", postgresql_where=text("status = 'queued'")
        ),
        # Small and cheap to keep: it only has to find what ended in the last minutes.
        Index("images_finished", "finished_at", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
        Index("images_running", "worker_id", postgresql_where=text("status = 'running'")),
        Index("images_running_of_account", "account_id", "model", postgresql_where=text("status = 'running'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id, ondelete="CASCADE"))
    account_id: Mapped[str]
    model: Mapped[str]
    mode: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    #: Age: the order in which images were submitted.
    sequence: Mapped[int] = mapped_column(Identity(always=True))
    #: Its place in the job, from 0.
    position: Mapped[int]
    #: The caller's own name for this image.
    key: Mapped[str | None]
    status: Mapped[str]
    #: Fencing token: raised by each claim and by a cancel; what a worker does under an older one changes nothing.
    attempt: Mapped[int] = mapped_column(server_default="0")
    #: How often a worker was lost when this image was started.
    losses: Mapped[int] = mapped_column(server_default="0")
    worker_id: Mapped[str | None]
    #: When the present attempt went to the model, or was soon to; None while the image only waits in a worker.
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    width: Mapped[int]
    height: Mapped[int]
    content_type: Mapped[str]
    held_micro: Mapped[int]
    #: Boxes of the lines that were found on a page, in reading order; None until then.
    layout: Mapped[list[Any] | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    #: What its caller asks of the reading: see `core/reading_options.py`.
    beams: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    max_new_tokens: Mapped[int | None]
    top_logprobs: Mapped[int | None] = mapped_column(SmallInteger)
    watched: Mapped[bool] = mapped_column(server_default="false")


class LineRow(Base):
    """One line that was read."""

    __tablename__ = "lines"

    image_id: Mapped[str] = mapped_column(ForeignKey(ImageRow.id, ondelete="CASCADE"), primary_key=True)
    #: Its place in reading order, from 0.
    position: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    confidence: Mapped[float | None]
    bbox: Mapped[list[int]]
    flags: Mapped[list[str]]
    words: Mapped[list[Any]] = mapped_column(JSONB)
    #: Tokens that the model wrote, the end token included; None for lines from before they were counted.
    token_count: Mapped[int | None]
    #: The tokens, for callers who asked.
    pieces: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))


class JobEventRow(Base):
    """One thing that happened to a job, under the version that it raised the job to."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey(JobRow.id, ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    #: Of the job, where the event is about it.
    status: Mapped[str | None]
    image_id: Mapped[str | None]
    line_position: Mapped[int | None]
