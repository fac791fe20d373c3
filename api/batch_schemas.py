"""Batches as OpenAI's clients ask for them and read them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from api.file_schemas import ExpiresAfter, FileId
from api.request_fields import Sent, Storable
from api.request_schemas import Metadata
from core.batches import Batch
from core.errors import NotFound

BatchStatusName = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
BatchEndpoint = Literal["/v1/chat/completions", "/v1/responses"]
_BATCH_ID = re.compile(r"batch_[0-9a-z]{26}")


def _possible(batch_id: str) -> str:
    if not _BATCH_ID.fullmatch(batch_id):
        raise NotFound(f"there is no batch {batch_id}")
    return batch_id


BatchId = Annotated[str, AfterValidator(_possible)]


class OutputExpiry(Sent):
    """When the files that a batch writes expire."""

    anchor: Literal["created_at"] = "created_at"
    seconds: ExpiresAfter


class BatchForm(Sent):
    """A new batch."""

    input_file_id: FileId
    endpoint: BatchEndpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None


class BatchPath(BaseModel):
    """The id of a batch."""

    batch_id: BatchId


class BatchPageQuery(Sent):
    """Which page of your batches."""

    after: BatchId | None = None
    limit: int = Field(20, ge=1, le=100)


class BatchLine(Sent):
    """One request of a batch's file."""

    custom_id: Storable = Field(min_length=1, max_length=512)
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


class RequestCountsBody(BaseModel):
    """How far a batch is."""

    total: int
    completed: int
    failed: int


class BatchErrorBody(BaseModel):
    """Why a file is no batch."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrorListBody(BaseModel):
    """Why a file is no batch, its first errors."""

    object: Literal["list"] = "list"
    data: list[BatchErrorBody]


class BatchBody(BaseModel):
    """A batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrorListBody | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchStatusName
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCountsBody
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, batch: Batch) -> BatchBody:
        """Render a batch."""
        errors = [BatchErrorBody(**error) for error in batch.errors] if batch.errors else None
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            errors=BatchErrorListBody(data=errors) if errors else None,
            input_file_id=batch.input_file_id,
            status=batch.status.value,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            created_at=int(batch.created_at.timestamp()),
            in_progress_at=_seconds(batch.in_progress_at),
            expires_at=int(batch.expires_at.timestamp()),
            finalizing_at=_seconds(batch.finalizing_at),
            completed_at=_seconds(batch.completed_at),
            failed_at=_seconds(batch.failed_at),
            expired_at=_seconds(batch.expired_at),
            cancelling_at=_seconds(batch.cancelling_at),
            cancelled_at=_seconds(batch.cancelled_at),
            request_counts=RequestCountsBody(
                total=batch.requests_total, completed=batch.requests_completed, failed=batch.requests_failed
            ),
            metadata=batch.metadata or None,
        )


class BatchListBody(BaseModel):
    """A page of batches, newest first."""

    object: Literal["list"] = "list"
    data: list[BatchBody]
    has_more: bool
    first_id: str | None
    last_id: str | None


def _seconds(at: datetime | None) -> int | None:
    return int(at.timestamp()) if at else None
