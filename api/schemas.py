"""The JSON that the API answers with, jobs above all. The contract is the names and types in this file."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from api.pages import Page
from core.amounts import CREDIT_MICRO
from core.credits import Credit
from core.image_views import ErrorView, ImageView
from core.job_views import JobView
from core.transcript import Line

PriorityName = Literal["interactive", "normal", "bulk"]
ModeName = Literal["line", "page", "auto"]
StatusName = Literal["queued", "running", "succeeded", "partial", "failed", "canceled", "expired"]
FlagName = Literal["blank", "low_confidence", "repetition", "truncated", "looks_like_page", "long_line"]


#: In [0, 1], or null when unknown; more digits would only look like knowledge.
Confidence = Annotated[float | None, AfterValidator(lambda value: None if value is None else round(value, 6))]


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
    beams: int = Field(description="Beginnings of each line's text that are followed at once.")
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
            beams=job.beams,
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


class JobListBody(Page[JobBody, str]):
    """A page of jobs, newest first."""


class ImageListBody(Page[ImageBody, str]):
    """A page of a job's images, in order."""


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


class AliveBody(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ReadyBody(BaseModel):
    """Submissions are taken."""

    status: Literal["ready"] = "ready"
    degraded: list[Literal["redis", "worker", "courier", "clerk"]] = Field(description="What else is down or not warm.")


def shown_credits(amount_micro: int) -> int | float:
    """Micro-credits as a JSON number of credits, with at most 6 decimals."""
    whole, rest = divmod(amount_micro, CREDIT_MICRO)
    return amount_micro / CREDIT_MICRO if rest else whole
