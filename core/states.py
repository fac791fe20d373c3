"""The states of jobs and images, and what a job becomes when its last image ends."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Status(StrEnum):
    """Where a job or an image is; `partial` is a state of jobs only."""

    #: Waits for a worker.
    QUEUED = "queued"
    #: A worker has claimed it, or some image of the job.
    RUNNING = "running"
    #: Read; a job is so when all its images are.
    SUCCEEDED = "succeeded"
    #: Some images of the job were read, the others failed.
    PARTIAL = "partial"
    #: Not read, for a reason that stands in the error.
    FAILED = "failed"
    #: The caller gave it up.
    CANCELED = "canceled"
    #: Its deadline came before it was started.
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether it never changes again."""
        return self not in (Status.QUEUED, Status.RUNNING)


class Mode(StrEnum):
    """What the caller says an image holds."""

    #: Exactly one text line.
    LINE = "line"
    #: A page of lines, to be found first.
    PAGE = "page"
    #: The service judges.
    AUTO = "auto"


class Priority(IntEnum):
    """Who is read first; the order is strict."""

    INTERACTIVE = 0
    NORMAL = 1
    BULK = 2

    @property
    def label(self) -> str:
        """The word of the API."""
        return self.name.lower()


def ended_as(*, images_total: int, images_succeeded: int) -> Status:
    """The state of a job whose images have all ended by themselves."""
    if images_succeeded == images_total:
        return Status.SUCCEEDED
    return Status.PARTIAL if images_succeeded else Status.FAILED
