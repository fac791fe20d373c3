"""The rows of new jobs and of their images, written by one statement each however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from core.accounts import Caller
from core.claims import count_ahead
from core.image_views import ImageView
from core.job_views import EMBEDDED_IMAGES, JobView
from core.new_jobs import NewImage, NewJob
from core.origin import Origin
from core.prices import Price
from core.queue_position import MOST_COUNTED
from core.states import Priority, Status

_INSERT_JOBS = text(
    """
    INSERT INTO jobs (
        id, account_id, key_id, status, model, mode, priority, max_lines, caller_metadata, images_total, held_micro,
        line_price_micro, price_version, beams, stored_bytes, webhook_url, webhook_events, webhook_include_text,
        deadline_at, retry_of, batch_id, origin)
    SELECT
        id, account_id, key_id, 'queued', model, mode, priority, max_lines, caller_metadata, images_total, held_micro,
        line_price_micro, price_version, beams, stored_bytes, webhook_url, webhook_events, webhook_include_text,
        now() + make_interval(secs => deadline_s), retry_of, batch_id, origin
    FROM jsonb_to_recordset(:jobs) AS new (
        id text, account_id text, key_id text, model text, mode text, priority smallint, max_lines bigint,
        caller_metadata jsonb, images_total bigint, held_micro bigint, line_price_micro bigint, price_version text,
        beams smallint, stored_bytes bigint, webhook_url text, webhook_events text[], webhook_include_text boolean,
        deadline_s double precision, retry_of text, batch_id text, origin jsonb)
    RETURNING id, caller_metadata, created_at, deadline_at
    """
).bindparams(bindparam("jobs", type_=JSONB))
_INSERT_IMAGES = text(
    """
    INSERT INTO images (
        id, job_id, account_id, model, mode, priority, position, key, status, width, height, content_type, held_micro,
        beams, max_new_tokens, top_logprobs, watched)
    SELECT id, job_id, account_id, model, mode, priority, position, key, 'queued', width, height, content_type,
        held_micro, beams, max_new_tokens, top_logprobs, watched
    FROM jsonb_to_recordset(:images) AS new (
        id text, job_id text, account_id text, model text, mode text, priority smallint, position bigint, key text,
        width bigint, height bigint, content_type text, held_micro bigint, beams smallint, max_new_tokens bigint,
        top_logprobs smallint, watched boolean)
    """
).bindparams(bindparam("images", type_=JSONB))


@dataclass(frozen=True, kw_only=True)
class JobToBe:
    """A submission with all that its rows say."""

    id: str
    #: Of its images, in their order.
    image_ids: Sequence[str]
    caller: Caller
    new: NewJob
    price: Price
    origin: Origin

    @property
    def held_micro(self) -> int:
        """What it holds of its account's credits at first."""
        return self.price.line_micro * self.new.most_lines


class Ahead:
    """Images that wait before each of several new jobs, as of the moment when it is made.

    Args:
        connection: No lock is needed.
        jobs: None of their own images is written yet.
    """

    def __init__(self, connection: Connection, jobs: Iterable[NewJob]) -> None:
        self._waiting = {
            (model, priority): count_ahead(connection, model, priority, most=MOST_COUNTED + 1)
            for model, priority in {(job.model, job.priority) for job in jobs}
        }
        #: Images of those jobs that came before the next one.
        self._before: Counter[tuple[str, Priority]] = Counter()

    def of_next(self, job: NewJob) -> int | None:
        """Those before the next job; None where they are too many to be counted."""
        ahead = self._waiting[job.model, job.priority] + sum(
            images
            for (model, priority), images in self._before.items()
            if model == job.model and priority <= job.priority
        )
        self._before[job.model, job.priority] += len(job.images)
        return ahead if ahead <= MOST_COUNTED else None


def insert(connection: Connection, jobs: Sequence[JobToBe], ahead: Ahead) -> list[JobView]:
    """Write jobs that wait, and their images, in this order: it is that in which they are read.

    Returns:
        What a look at each would show now, but for the others of the same transaction, which nobody else sees yet.
    """
    if not jobs:
        return []
    rows = connection.execute(_INSERT_JOBS, {"jobs": [_job(job) for job in jobs]})
    written = {row.id: row for row in rows}
    connection.execute(_INSERT_IMAGES, {"images": [image for job in jobs for image in _images(job)]})
    return [_view(job, written[job.id], ahead.of_next(job.new)) for job in jobs]


def _view(job: JobToBe, row: Row[Any], queue_position: int | None) -> JobView:
    new = job.new
    images = zip(job.image_ids[:EMBEDDED_IMAGES], new.images, strict=False)
    return JobView(
        id=job.id,
        status=Status.QUEUED,
        version=1,
        model=new.model,
        mode=new.mode,
        priority=new.priority,
        beams=new.reading.beams,
        max_lines=new.max_lines,
        metadata=row.caller_metadata,
        created_at=row.created_at,
        started_at=None,
        finished_at=None,
        images_total=len(new.images),
        images_done=0,
        lines_done=0,
        lines_charged=0,
        held_micro=job.held_micro,
        charged_micro=0,
        queue_position=queue_position,
        text=None,
        images=tuple(_image_view(place, *image) for place, image in enumerate(images)),
        error=None,
        retry_of=new.retry_of,
        deadline_at=row.deadline_at,
    )


def _image_view(place: int, image_id: str, image: NewImage) -> ImageView:
    header = image.header
    return ImageView(
        id=image_id,
        key=image.key,
        index=place,
        status=Status.QUEUED,
        width=header.width,
        height=header.height,
        error=None,
        lines=(),
    )


def _job(job: JobToBe) -> Mapping[str, Any]:
    new = job.new
    return {
        "id": job.id,
        "account_id": job.caller.account_id,
        "key_id": job.caller.key_id,
        "model": new.model,
        "mode": new.mode,
        "priority": new.priority,
        "max_lines": new.max_lines,
        "caller_metadata": dict(new.metadata),
        "images_total": len(new.images),
        "held_micro": job.held_micro,
        "line_price_micro": job.price.line_micro,
        "price_version": job.price.version,
        "beams": new.reading.beams,
        "stored_bytes": new.stored_bytes,
        "webhook_url": new.webhook.url if new.webhook else None,
        "webhook_events": list(new.webhook.events) if new.webhook else None,
        "webhook_include_text": new.webhook.include_text if new.webhook else False,
        "deadline_s": new.deadline_s or None,
        "retry_of": new.retry_of,
        "batch_id": new.batch_id,
        "origin": job.origin.to_store(),
    }


def _images(job: JobToBe) -> Iterator[Mapping[str, Any]]:
    new = job.new
    of_all = {
        "job_id": job.id,
        "account_id": job.caller.account_id,
        "model": new.model,
        "mode": new.mode,
        "priority": new.priority,
        "held_micro": job.held_micro // len(new.images),
        "beams": new.reading.beams,
        "max_new_tokens": new.reading.max_new_tokens,
        "top_logprobs": new.reading.top_logprobs,
        "watched": new.reading.watched,
    }
    for position, (image_id, image) in enumerate(zip(job.image_ids, new.images, strict=True)):
        yield of_all | {
            "id": image_id,
            "position": position,
            "key": image.key,
            "width": image.header.width,
            "height": image.header.height,
            "content_type": image.header.content_type,
        }
