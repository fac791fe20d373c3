"""Reading again what a job did not read: a new job over the images that failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row, select

from core import job_files
from core.accounts import Caller
from core.database import transaction
from core.errors import AlreadyFinished, NotFinished
from core.images import ImageHeader
from core.job_tables import ImageRow
from core.job_views import job_row
from core.new_jobs import NewImage, NewJob
from core.reading_options import ReadingOptions
from core.states import Mode, Priority, Status
from core.webhook_events import EventType
from core.webhooks import JobWebhook


def retry_of(caller: Caller, job_id: str, *, choose_model: Callable[[str, int], str]) -> NewJob:
    """Make a new job of those images of an ended one that were not read, to be submitted like any other.

    It has the same options but for the deadline, which may be over. Each job has files of its own, so that either can
    be deleted without the other.

    Args:
        caller: Whose job.
        job_id: The job that has ended.
        choose_model: Judges its model, with the beams that it asks for, and gives the name under which workers serve it
            now; they may have changed since. No image is read before.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
        NotFinished: It has not ended.
        AlreadyFinished: All its images were read.
        InkqueueError: What `choose_model` raises.
        Unavailable: Postgres or the storage cannot be reached.
    """
    with transaction() as connection:
        job = job_row(connection, caller, job_id)
        unread = connection.execute(
            select(ImageRow.__table__)
            .where(ImageRow.job_id == job_id, ImageRow.status != Status.SUCCEEDED)
            .order_by(ImageRow.position)
        ).all()
    if not Status(job.status).terminal:
        raise NotFinished(f"the job is still {job.status}; wait for its end, or cancel it")
    if not unread:
        raise AlreadyFinished("every image of this job was read: there is nothing to retry")
    model = choose_model(job.model, job.beams)
    return NewJob(
        model=model,
        mode=Mode(job.mode),
        priority=Priority(job.priority),
        max_lines=job.max_lines,
        metadata=job.caller_metadata,
        images=job_files.for_each(unread, _image),
        webhook=_webhook(job),
        retry_of=job_id,
        # The images of a job ask for the same; nobody watches a retry.
        reading=ReadingOptions(
            beams=unread[0].beams,
            max_new_tokens=unread[0].max_new_tokens,
            top_logprobs=unread[0].top_logprobs,
        ),
    )


def _image(row: Row[Any]) -> NewImage:
    return NewImage(
        data=job_files.get_image(row.job_id, row.id),
        # It was judged when it was first submitted.
        header=ImageHeader(
            content_type=row.content_type,
            width=row.width,
            height=row.height,
            extension=row.content_type.partition("/")[2],
        ),
        key=row.key,
    )


def _webhook(job: Row[Any]) -> JobWebhook | None:
    if job.webhook_url is None:
        return None
    return JobWebhook(
        url=job.webhook_url,
        events=tuple(EventType(event) for event in job.webhook_events),
        include_text=job.webhook_include_text,
    )
