"""What callers send, as JSON, form, path or query. The contract is the names and types in this file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api.file_schemas import FileId
from api.request_fields import Moment, Read, Sent, Storable, storable
from api.schemas import ModeName, PriorityName, StatusName
from core.errors import NotFound
from core.reading_options import MAX_BEAMS

#: Pairs of strings that a caller may attach to a job.
Metadata = Annotated[
    dict[Annotated[Storable, Field(max_length=64)], Annotated[Storable, Field(max_length=512)]],
    Field(max_length=16),
]
#: A caller's own name for an image.
ImageKey = Annotated[Storable, Field(max_length=256)]

#: How many beginnings of a line's text are followed at once.
Beams = Annotated[int, Field(ge=1, le=MAX_BEAMS)]


JobEventName = Literal["job.started", "job.completed", "job.failed", "job.canceled"]
#: An address that webhooks are sent to; whether they may is judged apart.
WebhookUrl = Annotated[Storable, Field(max_length=2048)]
DEFAULT_JOB_EVENTS: list[JobEventName] = ["job.completed", "job.failed", "job.canceled"]


class WebhookOption(Sent):
    """Where the events of one job are sent, signed with the secret of `GET /v1/webhook_secret`."""

    url: WebhookUrl
    events: list[JobEventName] = Field(DEFAULT_JOB_EVENTS, min_length=1)
    include_text: bool = Field(False, description="Whether the text read comes with the end, cut to fit 20 KB.")


class JobOptions(Sent):
    """Options of a job: fields of the JSON body or the form, or query parameters beside a raw image."""

    model: str | None = Field(
        None, max_length=256, description="A model of `GET /v1/models`; the service's default if left out."
    )
    mode: ModeName = Field("auto", description="What an image holds. Pages are not read yet.")
    priority: PriorityName = Field("normal", description="Who is read first.")
    beams: Beams = Field(
        1, description="Beginnings of each line's text that are followed at once; each beyond the first costs more."
    )
    max_lines: int = Field(40, ge=1, le=1000, description="A page's ceiling of lines.")
    metadata: Metadata = Field({}, description="Up to 16 pairs of strings that come back with the job.")
    webhook: WebhookOption | None = Field(None, description="Where to send this job's events.")
    webhook_url: WebhookUrl | None = Field(None, description="Short for a `webhook` with this url.")

    deadline_s: int | None = Field(
        None, ge=1, le=30 * 24 * 3600, description="Images that are not started so many seconds from now expire, free."
    )

    @model_validator(mode="after")
    def _one_webhook(self) -> JobOptions:
        if self.webhook is not None and self.webhook_url is not None:
            raise ValueError("give webhook or webhook_url, not both")
        return self


class ImageSource(Sent):
    """One image of a JSON submission: exactly one of `url`, `base64` and `file_id`."""

    url: str | None = Field(None, description="An http(s) address, or a data URL.")
    base64: str | None = Field(None, description="The bytes of the file.")
    file_id: FileId | None = Field(None, description="A file that was uploaded to `/v1/files`.")
    key: ImageKey | None = Field(None, description="Your own name for the image; it comes back with it.")

    @model_validator(mode="after")
    def _exactly_one(self) -> ImageSource:
        if sum(source is not None for source in (self.url, self.base64, self.file_id)) != 1:
            raise ValueError("an image has exactly one of url, base64 and file_id")
        return self


class JobSubmission(JobOptions):
    """The JSON body of `POST /v1/jobs`."""

    images: list[ImageSource] = Field(min_length=1, description="1 to 1,000 images.")


_METADATA_FIELD = re.compile(r"metadata\[.+\]")
_JOB_ID = r"^job_[0-9a-z]{26}$"
JobId = Annotated[str, Field(pattern=_JOB_ID)]


def possible_job_id(job_id: str) -> str:
    """A job's id as it could have been given out.

    Raises:
        NotFound: It could not.
    """
    # Such an id was never given out: it is unknown like any other, and Postgres need not be asked.
    if not re.match(_JOB_ID, job_id):
        raise NotFound(f"there is no job {job_id}")
    return job_id


class JobPath(BaseModel):
    """A job's id in the path."""

    job_id: Annotated[str, AfterValidator(possible_job_id)] = Field(description="As in the job's `id`.")


#: An id that a caller gives a job; it can not be taken for one of ours.
OWN_ID = re.compile(r"(?!job_)[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")


def _own(client_id: str) -> str:
    if not OWN_ID.fullmatch(client_id):
        raise ValueError("an id of your own has 1 to 128 letters, digits or . _ ~ -, and does not begin with job_")
    return client_id


class OwnIdPath(BaseModel):
    """An id that the caller gives a job."""

    job_id: Annotated[str, AfterValidator(_own)] = Field(description="Letters, digits, `.`, `_`, `~`, `-`.")


class ModelPath(BaseModel):
    """A model's name in the path; it may hold slashes."""

    model_id: str


class WaitQuery(Sent):
    """How long an answer may take to come."""

    wait: float = Field(
        0,
        ge=0,
        le=60,
        description="Seconds to wait for the job to end or, with If-None-Match, to change.",
    )


class JobPageQuery(Read):
    """Which jobs, and which page of them; other fields than these are filters of metadata."""

    # Names that are not known beforehand: the pairs of `metadata[name]=value`.
    model_config = ConfigDict(extra="allow")

    after: JobId | None = Field(None, description="The `next_cursor` of the page before.")
    limit: int = Field(20, ge=1, le=100)
    status: list[StatusName] = Field([], description="Only jobs in this state, or in one of these.")
    created_after: Moment | None = Field(None, description="Only jobs made at this time or later.")
    created_before: Moment | None = Field(None, description="Only jobs made before this time.")

    @model_validator(mode="after")
    def _only_metadata_beside(self) -> JobPageQuery:
        for name, value in (self.model_extra or {}).items():
            if not _METADATA_FIELD.fullmatch(name):
                raise ValueError(f"there is no field {name}")
            storable(name + value)
        return self

    def metadata(self) -> dict[str, str]:
        """The pairs that a job must carry."""
        return {name[len("metadata[") : -1]: value for name, value in (self.model_extra or {}).items()}


class ImagePageQuery(Sent):
    """Which page of a job's images."""

    after: int = Field(-1, ge=-1, lt=2**31, description="The `next_cursor` of the page before.")
    limit: int = Field(100, ge=1, le=100)


TranscriptForm = Literal["txt", "json", "alto", "page", "hocr", "tsv"]


class TranscriptQuery(Sent):
    """In which form a transcript is wanted."""

    format: TranscriptForm = "txt"
