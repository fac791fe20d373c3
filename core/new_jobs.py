"""A job's beginning: its images are stored, its rows written and its credits held, and tickets are sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy import Connection, Interval, bindparam, func, insert

from core import admission, credits, idempotency, job_files, queue, webhook_secrets
from core.accounts import Caller
from core.database import transaction
from core.errors import Unavailable
from core.idempotency import Once
from core.ids import new_id
from core.images import ImageHeader
from core.job_tables import ImageRow, JobRow
from core.origin import Origin
from core.prices import Price, held_lines, price_list
from core.reading_options import ReadingOptions
from core.states import Mode, Priority, Status
from core.webhooks import JobWebhook

#: Most images of one job (the API's contract).
MAX_IMAGES = 1000
#: The status of the answer to a submission, which a replay repeats.
_ACCEPTED = 202

# Statements that run with every job are made once: making one costs about as much as sending it.
_INSERT_JOB = insert(JobRow).values(deadline_at=func.now() + bindparam("deadline", type_=Interval))
_INSERT_IMAGES = insert(ImageRow)


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image of a submission, judged by its header."""

    data: bytes
    header: ImageHeader
    #: The caller's own name for it.
    key: str | None


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A validated submission."""

    model: str
    mode: Mode
    priority: Priority
    max_lines: int
    metadata: Mapping[str, str]
    images: Sequence[NewImage]
    webhook: JobWebhook | None = None
    #: Images that are not started so many seconds after the submission expire.
    deadline_s: float | None = None
    #: The job whose unread images these are.
    retry_of: str | None = None
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    #: The batch whose requests it reads.
    batch_id: str | None = None

    @property
    def stored_bytes(self) -> int:
        """Of all its image files."""
        return sum(len(image.data) for image in self.images)


def submit(
    caller: Caller,
    new: NewJob,
    *,
    once: Once | None = None,
    also: Callable[[Connection, str], None] | None = None,
) -> str:
    """Store a job's images, then its rows and its hold in one transaction, then send tickets; return its id.

    Args:
        caller: Who submits.
        new: What.
        once: Under what it is taken once, however often it is sent.
        also: What else is to be true with it: called with the transaction and the job's id.

    Raises:
        AlreadySubmitted: The same submission was taken before.
        IdempotencyConflict: Another one was, under the same key.
        IdempotencyInProgress: One is being taken at this moment.
        InsufficientCredits: The account cannot pay for it; nothing is kept.
        KeyBudgetExceeded: The caller's key may not spend so much this month; nothing is kept.
        RateLimited: The account has too many jobs in flight or bytes stored; nothing is kept.
        QueueFull: Too much waits for the model; nothing is kept.
        Unavailable: Postgres or the storage cannot be reached, or webhooks cannot be signed here; nothing is kept,
            unless Postgres went just when it had taken the job.
    """
    job_id = new_id("job")
    image_ids = [new_id("img") for _ in new.images]
    price = price_list().price(new.model, new.mode, new.priority, beams=new.reading.beams)
    held_micro = price.line_micro * held_lines(new.mode, images=len(new.images), max_lines=new.max_lines)
    _judge(caller, new, held_micro)
    job_files.put_images(job_id, {i: image.data for i, image in zip(image_ids, new.images, strict=True)})
    try:
        with transaction() as connection:
            if once is not None:
                idempotency.take(connection, caller.account_id, once, job_id=job_id, status_code=_ACCEPTED)
            _insert(connection, caller, new, job_id, image_ids, price)
            credits.hold(
                connection,
                account_id=caller.account_id,
                job_id=job_id,
                key_id=caller.key_id,
                amount_micro=held_micro,
            )
            admission.take_room(connection, caller, stored_bytes=new.stored_bytes)
            if also is not None:
                also(connection, job_id)
    except Unavailable:
        # Postgres may have gone after the commit: then there is a job. Without one, its files are found as orphans.
        raise
    except Exception:
        job_files.delete_files(job_id)
        raise
    # Log lines of this request name it from now on.
    structlog.contextvars.bind_contextvars(job=job_id)
    queue.ring(new.model, tickets=queue.tickets_for(len(new.images)))
    return job_id


def _judge(caller: Caller, new: NewJob, held_micro: int) -> None:
    """Refuse what is known to be refused before anything of it is stored."""
    admission.queue_watch().check(new.model, new.priority)
    # Judged again under the account's lock; here it keeps those who could not pay when they were identified, before
    # their images came, from filling the disk.
    if caller.available_micro is None or caller.available_micro < held_micro:
        credits.check_funds(caller.account_id, held_micro)
    if new.webhook is not None:
        # What could never be signed is refused now, not when it is to be sent.
        with transaction() as connection:
            webhook_secrets.ensure_secret(connection, caller.account_id)


def _insert(
    connection: Connection, caller: Caller, new: NewJob, job_id: str, image_ids: Sequence[str], price: Price
) -> None:
    image_held_micro = price.line_micro * held_lines(new.mode, images=1, max_lines=new.max_lines)
    connection.execute(
        _INSERT_JOB,
        {
            "id": job_id,
            "account_id": caller.account_id,
            "key_id": caller.key_id,
            "status": Status.QUEUED,
            "model": new.model,
            "mode": new.mode,
            "priority": new.priority,
            "max_lines": new.max_lines,
            "caller_metadata": dict(new.metadata),
            "images_total": len(new.images),
            "held_micro": image_held_micro * len(new.images),
            "line_price_micro": price.line_micro,
            "price_version": price.version,
            "beams": new.reading.beams,
            "stored_bytes": new.stored_bytes,
            "webhook_url": new.webhook.url if new.webhook else None,
            "webhook_events": [event.value for event in new.webhook.events] if new.webhook else None,
            "webhook_include_text": new.webhook.include_text if new.webhook else False,
            "deadline": timedelta(seconds=new.deadline_s) if new.deadline_s else None,
            "retry_of": new.retry_of,
            "batch_id": new.batch_id,
            "origin": Origin.here().to_store(),
        },
    )
    connection.execute(
        _INSERT_IMAGES,
        [
            {
                "id": image_id,
                "job_id": job_id,
                "account_id": caller.account_id,
                "model": new.model,
                "mode": new.mode,
                "priority": new.priority,
                "position": position,
                "key": image.key,
                "status": Status.QUEUED,
                "width": image.header.width,
                "height": image.header.height,
                "content_type": image.header.content_type,
                "held_micro": image_held_micro,
                "beams": new.reading.beams,
                "max_new_tokens": new.reading.max_new_tokens,
                "top_logprobs": new.reading.top_logprobs,
                "watched": new.reading.watched,
            }
            for position, (image_id, image) in enumerate(zip(image_ids, new.images, strict=True))
        ],
    )
