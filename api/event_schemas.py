"""The JSON of a job's events: what stands in the `data` of each kind."""

from __future__ import annotations

from pydantic import BaseModel, Field

from api.schemas import FailureBody, LineBody, StatusName


class _EventBody(BaseModel):
    job_id: str
    version: int = Field(description="The job's version after this event; the event's id.")


class StatusEventBody(_EventBody):
    """`status`: the job is queued, or is being read."""

    status: StatusName


class DoneEventBody(_EventBody):
    """`done`: the job has ended; nothing follows."""

    status: StatusName
    url: str = Field(description="Where the whole job is read.")


class _ImageEventBody(_EventBody):
    image_id: str
    image_index: int
    image_key: str | None


class LineEventBody(_ImageEventBody):
    """`line`: a line was read."""

    line: LineBody


class ImageEventBody(_ImageEventBody):
    """`image`: an image ended without a line: it failed, or nothing is on it."""

    status: StatusName
    error: FailureBody | None
