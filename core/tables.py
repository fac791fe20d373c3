"""The tables, column by column; `migrations/` makes them, and a test holds the two together."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        bytes: LargeBinary,
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        list[int]: ARRAY(BigInteger),
    }


class AccountRow(Base):
    """Who pays. The running totals are written only together with a ledger row."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("held_micro >= 0", name="accounts_held_not_negative"),
        CheckConstraint("balance_micro >= held_micro", name="accounts_available_not_negative"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    balance_micro: Mapped[int] = mapped_column(server_default="0")
    held_micro: Mapped[int] = mapped_column(server_default="0")
    #: Since when its keys are refused.
    suspended_at: Mapped[datetime | None]
    #: Image files of its jobs that have not been deleted, and its other files.
    stored_bytes: Mapped[int] = mapped_column(server_default="0")
    #: How long its ended jobs are kept, 0 for ever; None: as the service's setting says.
    retention_days: Mapped[float | None]
    #: The balance below which it is told that credits run low, 0 never; None: as the service's setting says.
    low_credits_micro: Mapped[int | None]


class KeyRow(Base):
    """An API key: only its hash is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index(
            "api_keys_previous",
            "previous_sha256",
            unique=True,
            postgresql_where=text("previous_sha256 IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str]
    sha256: Mapped[bytes] = mapped_column(unique=True)
    last_four: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    scopes: Mapped[list[str]] = mapped_column(server_default="{jobs,read,admin}")
    expires_at: Mapped[datetime | None]
    #: To the minute.
    last_used_at: Mapped[datetime | None]
    #: Most that its jobs may cost in a calendar month (UTC), in micro-credits; None: no cap.
    monthly_cap_micro: Mapped[int | None]
    #: What its jobs hold now; written only together with a ledger row.
    held_micro: Mapped[int] = mapped_column(server_default="0")
    #: Image files of its jobs that have not been deleted.
    stored_bytes: Mapped[int] = mapped_column(server_default="0")
    #: Limits of its own, below the account's, by their name in `api/key_schemas.py`.
    limits: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    #: The secret before the last rotation, and until when it is still taken.
    previous_sha256: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]


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
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
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
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
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
    #: How often a worker was lost while this image was in its rows.
    losses: Mapped[int] = mapped_column(server_default="0")
    worker_id: Mapped[str | None]
    #: When the present attempt went to the model; None while the image only waits in a worker.
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

    image_id: Mapped[str] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
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

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    #: Of the job, where the event is about it.
    status: Mapped[str | None]
    image_id: Mapped[str | None]
    line_position: Mapped[int | None]


class FileRow(Base):
    """A file of an account's; its bytes are in the storage, under its id."""

    __tablename__ = "files"
    __table_args__ = (
        Index("files_of_account", "account_id", "id"),
        Index("files_to_expire", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
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
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
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

    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
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


class LedgerRow(Base):
    """One movement of credits, never changed; the sign of each kind is stated in `core/credits.py`.

    No foreign key to jobs or images, so that deleting a job never touches the ledger.
    """

    __tablename__ = "ledger"
    __table_args__ = (
        Index("ledger_of_account", "account_id", "id"),
        Index("ledger_of_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
        Index(
            "ledger_one_hold_a_job",
            "job_id",
            unique=True,
            postgresql_where=text("kind = 'hold' AND image_id IS NULL"),
        ),
        Index(
            "ledger_once_an_image",
            "image_id",
            "kind",
            unique=True,
            postgresql_where=text("image_id IS NOT NULL AND reason IS DISTINCT FROM 'layout'"),
        ),
        Index("ledger_one_layout_an_image", "image_id", unique=True, postgresql_where=text("reason = 'layout'")),
        Index("ledger_captures_of_account", "account_id", "created_at", postgresql_where=text("kind = 'capture'")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    amount_micro: Mapped[int]
    job_id: Mapped[str | None]
    image_id: Mapped[str | None]
    key_id: Mapped[str | None]
    reason: Mapped[str | None]
    #: What a capture was for; jobs may be gone when a report is asked for.
    lines: Mapped[int | None]
    model: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GrantRow(Base):
    """Credits with terms; the posted ones' remaining parts are together the account's balance."""

    __tablename__ = "credit_grants"
    __table_args__ = (
        CheckConstraint(
            "remaining_micro >= 0 AND remaining_micro <= amount_micro", name="credit_grants_remaining_within_amount"
        ),
        Index("credit_grants_with_something_left", "account_id", postgresql_where=text("remaining_micro > 0")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    category: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    amount_micro: Mapped[int]
    remaining_micro: Mapped[int]
    effective_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: When it came into the balance; None while its time has not begun.
    posted_at: Mapped[datetime | None]


class SpendRow(Base):
    """Which grant bore how much of a ledger entry that lowered the balance; never changed."""

    __tablename__ = "grant_spends"

    ledger_id: Mapped[int] = mapped_column(ForeignKey("ledger.id"), primary_key=True)
    grant_id: Mapped[str] = mapped_column(ForeignKey("credit_grants.id"), primary_key=True)
    amount_micro: Mapped[int]


class KeyMonthRow(Base):
    """What a key's jobs were charged in a month (UTC); written only together with a ledger row."""

    __tablename__ = "key_months"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    #: Its first day.
    month: Mapped[date] = mapped_column(primary_key=True)
    captured_micro: Mapped[int]


class IdempotencyRow(Base):
    """A submission that was taken once, under its caller's key or id."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index("idempotency_keys_to_forget", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    #: Of the first answer.
    status_code: Mapped[int] = mapped_column(SmallInteger)
    job_id: Mapped[str]
    #: None: as long as the job.
    expires_at: Mapped[datetime | None]


class WebhookEndpointRow(Base):
    """An address to which an account has its events sent."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index("webhook_endpoints_of_account", "account_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    url: Mapped[str]
    events: Mapped[list[str]]
    include_text: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: The first attempt that failed since one succeeded.
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]


class WebhookSecretRow(Base):
    """What an endpoint's events, or an account's other ones, are signed with, encrypted."""

    __tablename__ = "webhook_secrets"

    #: An endpoint's id, or an account's.
    owner_id: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    #: The secret before the last rotation; it signs too, for a while.
    previous: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]


class WebhookDeliveryRow(Base):
    """One event on its way to one receiver; no foreign keys, so that the log outlasts what it tells of."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("webhook_deliveries_of_account", "account_id", "id"),
        Index("webhook_deliveries_due", "target", "due_at", postgresql_where=text("status = 'pending'")),
        Index(
            "webhook_deliveries_once_an_event",
            "job_id",
            "target",
            "event",
            unique=True,
            postgresql_where=text("job_id IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    endpoint_id: Mapped[str | None]
    job_id: Mapped[str | None]
    event: Mapped[str]
    #: The `webhook-id`: the same for all receivers and attempts of an event.
    event_id: Mapped[str]
    url: Mapped[str]
    #: Deliveries of one target share its few requests at once, and take nobody else's.
    target: Mapped[str]
    include_text: Mapped[bool]
    data: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default="pending")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: While a courier is at it.
    claimed_until: Mapped[datetime | None]
    #: Fencing token: raised by each claim; what a courier reports under an older one changes nothing.
    attempts: Mapped[int] = mapped_column(server_default="0")
    #: Attempts that failed since it was last scheduled anew.
    failures: Mapped[int] = mapped_column(server_default="0")
    ended_at: Mapped[datetime | None]
    #: That of its job or batch.
    origin: Mapped[dict[str, Any] | None]


class WebhookAttemptRow(Base):
    """How one request of a delivery went."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ended_at: Mapped[datetime] = mapped_column(server_default=func.now())
    latency_ms: Mapped[int]
    status_code: Mapped[int | None]
    #: The first KB of the answer.
    response: Mapped[str | None]
    error: Mapped[str | None]
