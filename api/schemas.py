"""The JSON of the API: what is sent, and how jobs are rendered. The contract is the names and types in this file."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from core.credits import CREDIT_MICRO, Credit
from core.errors import NotFound
from core.job_views import ErrorView, ImageView, JobView
from core.settings import settings
from core.transcript import Line

PriorityName = Literal["interactive", "normal", "bulk"]
ModeName = Literal["line", "page", "auto"]
StatusName = Literal["queued", "running", "succeeded", "partial", "failed", "canceled", "expired"]
FlagName = Literal["blank", "low_confidence", "repetition", "truncated", "looks_like_page", "long_line"]


def _storable(text: str) -> str:
    # Postgres stores every character but this one.
    if "\0" in text:
        raise ValueError("a NUL character cannot be stored")
    return text


#: In [0, 1], or null when unknown; more digits would only look like knowledge.
Confidence = Annotated[float | None, AfterValidator(lambda value: None if value is None else round(value, 6))]
#: Pairs of strings that a caller may attach to a job.
Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=64), AfterValidator(_storable)],
        Annotated[str, Field(max_length=512), AfterValidator(_storable)],
    ],
    Field(max_length=16),
]
#: A caller's own name for an image.
ImageKey = Annotated[str, Field(max_length=256), AfterValidator(_storable)]


class Sent(BaseModel):
    """What callers send: a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


WebhookEventName = Literal["job.started", "job.completed", "job.failed", "job.canceled"]
#: An address that webhooks are sent to; whether they may is judged apart.
WebhookUrl = Annotated[str, Field(max_length=2048), AfterValidator(_storable)]
DEFAULT_WEBHOOK_EVENTS: list[WebhookEventName] = ["job.completed", "job.failed", "job.canceled"]


class WebhookOption(Sent):
    """Where the events of one job are sent, signed with the secret of `GET /v1/webhook_secret`."""

    url: WebhookUrl
    events: list[WebhookEventName] = Field(DEFAULT_WEBHOOK_EVENTS, min_length=1)
    include_text: bool = Field(False, description="Whether the text read comes with the end, cut to fit 20 KB.")


class JobOptions(Sent):
    """Options of a job: fields of the JSON body or the form, or query parameters beside a raw image."""

    model: str | None = Field(
        None, max_length=256, description="A model of `GET /v1/models`; the service's default if left out."
    )
    mode: ModeName = Field("auto", description="What an image holds. Pages are not read yet.")
    priority: PriorityName = Field("normal", description="Who is read first.")
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
    """One image of a JSON submission: exactly one of `url` and `base64`."""

    url: str | None = Field(None, description="An http(s) address, or a data URL.")
    base64: str | None = Field(None, description="The bytes of the file.")
    key: ImageKey | None = Field(None, description="Your own name for the image; it comes back with it.")

    @model_validator(mode="after")
    def _exactly_one(self) -> ImageSource:
        if (self.url is None) == (self.base64 is None):
            raise ValueError("an image has exactly one of url and base64")
        return self


class JobSubmission(JobOptions):
    """The JSON body of `POST /v1/jobs`."""

    images: list[ImageSource] = Field(min_length=1, description="1 to 1,000 images.")


_METADATA_FIELD = re.compile(r"metadata\[.+\]")
_JOB_ID = r"^job_[0-9a-z]{26}$"
JobId = Annotated[str, Field(pattern=_JOB_ID)]


def _possible(job_id: str) -> str:
    # Such an id was never given out: it is unknown like any other, and Postgres need not be asked.
    if not re.match(_JOB_ID, job_id):
        raise NotFound(f"there is no job {job_id}")
    return job_id


class JobPath(BaseModel):
    """A job's id in the path."""

    job_id: Annotated[str, AfterValidator(_possible)] = Field(description="As in the job's `id`.")


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


class JobPageQuery(BaseModel):
    """Which jobs, and which page of them; other fields than these are filters of metadata."""

    # Names that are not known beforehand: the pairs of `metadata[name]=value`.
    model_config = ConfigDict(extra="allow")

    after: JobId | None = Field(None, description="The `next_cursor` of the page before.")
    limit: int = Field(20, ge=1, le=100)
    status: list[StatusName] = Field([], description="Only jobs in this state, or in one of these.")
    created_after: AwareDatetime | None = Field(None, description="Only jobs made at this time or later.")
    created_before: AwareDatetime | None = Field(None, description="Only jobs made before this time.")

    @model_validator(mode="after")
    def _only_metadata_beside(self) -> JobPageQuery:
        for name, value in (self.model_extra or {}).items():
            if not _METADATA_FIELD.fullmatch(name):
                raise ValueError(f"there is no field {name}")
            _storable(name + value)
        return self

    def metadata(self) -> dict[str, str]:
        """The pairs that a job must carry."""
        return {name[len("metadata[") : -1]: value for name, value in (self.model_extra or {}).items()}


class ImagePageQuery(Sent):
    """Which page of a job's images."""

    after: int = Field(-1, ge=-1, lt=2**31, description="The `next_cursor` of the page before.")
    limit: int = Field(100, ge=1, le=100)


class TranscriptQuery(Sent):
    """In which form a transcript is wanted."""

    format: Literal["txt", "json"] = "txt"


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    code: str
    param: str | None


class ErrorBody(BaseModel):
    """Every error's body."""

    error: ErrorDetail


class WordBody(BaseModel):
    """A word of a line."""

    text: str
    confidence: Confidence


class LineBody(BaseModel):
    """A line of an image."""

    index: int
    text: str
    confidence: Confidence = Field(description="In [0, 1]; null when unknown.")
    bbox: list[int] = Field(description="xmin, ymin, xmax, ymax in pixels of the upright image, origin top left.")
    flags: list[FlagName]
    words: list[WordBody]

    @classmethod
    def of(cls, line: Line) -> LineBody:
        """Render a line."""
        box = line.bbox
        return cls(
            index=line.index,
            text=line.text,
            confidence=line.confidence,
            bbox=[box.xmin, box.ymin, box.xmax, box.ymax],
            flags=[flag.value for flag in line.flags],
            words=[WordBody(text=word.text, confidence=word.confidence) for word in line.words],
        )


class FailureBody(BaseModel):
    """Why an image or a job failed."""

    code: str
    message: str

    @classmethod
    def of(cls, error: ErrorView | None) -> FailureBody | None:
        """Render an error, if there is one."""
        return cls(code=error.code, message=error.message) if error else None


class ImageBody(BaseModel):
    """An image of a job."""

    id: str
    key: str | None
    index: int
    status: StatusName
    width: int
    height: int
    text: str | None
    error: FailureBody | None
    lines: list[LineBody]

    @classmethod
    def of(cls, image: ImageView) -> ImageBody:
        """Render an image."""
        return cls(
            id=image.id,
            key=image.key,
            index=image.index,
            status=image.status.value,
            width=image.width,
            height=image.height,
            text=image.text,
            error=FailureBody.of(image.error),
            lines=[LineBody.of(line) for line in image.lines],
        )


class ProgressBody(BaseModel):
    """How far a job is."""

    images_total: int
    images_done: int
    lines_done: int


class UsageBody(BaseModel):
    """What a job costs, in credits."""

    lines: int = Field(description="Lines that were charged.")
    credits: int | float = Field(description="Spent so far.")
    held: int | float = Field(description="Set aside for images that have not ended.")


class UrlsBody(BaseModel):
    """Where to go on from a job."""

    self: str
    cancel: str
    receipt: str
    events: str
    transcript: str


class JobBody(BaseModel):
    """A job. A list of jobs leaves `images` and `text` out (empty and null)."""

    id: str
    object: Literal["job"] = "job"
    status: StatusName
    version: int = Field(description="Rises with each change; the ETag.")
    model: str
    mode: ModeName
    priority: PriorityName
    max_lines: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: ProgressBody
    queue_position: int | None = Field(description="Images ahead of this job's first, an estimate; null when unknown.")
    text: str | None
    images: list[ImageBody] = Field(description="The first 100; the others: GET /v1/jobs/{id}/images.")
    usage: UsageBody
    metadata: dict[str, str]
    error: FailureBody | None
    retry_of: str | None = Field(description="The job whose unread images this one holds.")
    deadline_at: datetime | None = Field(description="Images that are not started by then expire, free.")
    urls: UrlsBody

    @classmethod
    def of(cls, job: JobView) -> JobBody:
        """Render a job."""
        return cls(
            id=job.id,
            status=job.status.value,
            version=job.version,
            model=job.model,
            mode=job.mode.value,
            priority=job.priority.label,
            max_lines=job.max_lines,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            progress=ProgressBody(
                images_total=job.images_total, images_done=job.images_done, lines_done=job.lines_done
            ),
            queue_position=job.queue_position,
            text=job.text,
            images=[ImageBody.of(image) for image in job.images],
            usage=UsageBody(
                lines=job.lines_charged, credits=shown_credits(job.charged_micro), held=shown_credits(job.held_micro)
            ),
            metadata=job.metadata,
            error=FailureBody.of(job.error),
            retry_of=job.retry_of,
            deadline_at=job.deadline_at,
            urls=UrlsBody(
                self=f"/v1/jobs/{job.id}",
                cancel=f"/v1/jobs/{job.id}/cancel",
                receipt=f"/v1/jobs/{job.id}/receipt",
                events=f"/v1/jobs/{job.id}/events",
                transcript=f"/v1/jobs/{job.id}/transcript",
            ),
        )


class JobListBody(BaseModel):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobBody]
    has_more: bool
    next_cursor: str | None = Field(description="Pass it as `after` to get the next page; null on the last.")


class ImageListBody(BaseModel):
    """A page of a job's images, in order."""

    object: Literal["list"] = "list"
    data: list[ImageBody]
    has_more: bool
    next_cursor: str | None


class DeletedBody(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["job"] = "job"
    deleted: Literal[True] = True


class CreditsBody(BaseModel):
    """An account's credits."""

    object: Literal["credits"] = "credits"
    balance: int | float
    held: int | float = Field(description="The part of the balance that running jobs hold.")
    available: int | float = Field(description="What can be spent: balance - held.")

    @classmethod
    def of(cls, credit: Credit) -> CreditsBody:
        """Render an account's totals."""
        return cls(
            balance=shown_credits(credit.balance_micro),
            held=shown_credits(credit.held_micro),
            available=shown_credits(credit.available_micro),
        )


class ModelBody(BaseModel):
    """A model that workers serve now."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the worker that serves it started, in Unix seconds.")
    owned_by: str
    default: bool = Field(description="Whether jobs that name no model get this one.")
    revision: str | None
    sha256: str
    device: str
    dtype: str
    parameters: int

    @classmethod
    def of(cls, card: dict[str, Any]) -> ModelBody:
        """Render what a worker says of a model."""
        name = card["name"]
        return cls(id=name, owned_by="inkqueue", default=name == settings().default_model, **card)


class ModelListBody(BaseModel):
    """The models that workers serve now."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


class AliveBody(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ReadyBody(BaseModel):
    """Submissions are taken."""

    status: Literal["ready"] = "ready"
    degraded: list[Literal["redis", "worker", "courier"]] = Field(description="What else is down or not warm.")


def shown_credits(amount_micro: int) -> int | float:
    """Micro-credits as a JSON number of credits, with at most 6 decimals."""
    whole, rest = divmod(amount_micro, CREDIT_MICRO)
    return amount_micro / CREDIT_MICRO if rest else whole
