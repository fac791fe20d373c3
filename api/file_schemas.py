"""Files as OpenAI's clients send and read them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from api.request_fields import Sent
from core.errors import NotFound
from core.files import StoredFile

_FILE_ID = re.compile(r"file_[0-9a-z]{26}")


def _possible(file_id: str) -> str:
    # Such an id was never given out: it is unknown like any other, and Postgres need not be asked.
    if not _FILE_ID.fullmatch(file_id):
        raise NotFound(f"there is no file {file_id}")
    return file_id


FileId = Annotated[str, AfterValidator(_possible)]
#: What an upload may be for; `batch_output` is what batches write.
UploadPurpose = Literal["batch", "vision", "user_data"]
#: An hour to thirty days, as OpenAI has it.
ExpiresAfter = Annotated[int, Field(ge=3600, le=2_592_000)]


def _without_path(filename: str) -> str:
    return filename.replace("\0", "").rsplit("/", 1)[-1][:255] or "file"


Filename = Annotated[str, AfterValidator(_without_path)]


class FileForm(BaseModel):
    """What stands beside the file in an upload."""

    purpose: UploadPurpose
    filename: Filename
    expires_after_anchor: Literal["created_at"] | None = None
    expires_after_s: ExpiresAfter | None = None


class FilePath(BaseModel):
    """The id of a file."""

    file_id: FileId


class FilePageQuery(Sent):
    """Which files, and which page of them."""

    after: FileId | None = None
    limit: int = Field(10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = Field(None, pattern=r"^[a-z_-]+$")


class FileBody(BaseModel):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, file: StoredFile) -> FileBody:
        """Render a file."""
        return cls(
            id=file.id,
            bytes=file.size_bytes,
            created_at=int(file.created_at.timestamp()),
            expires_at=int(file.expires_at.timestamp()) if file.expires_at else None,
            filename=file.filename,
            purpose=file.purpose,
        )


class FileListBody(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileBody]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFileBody(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
