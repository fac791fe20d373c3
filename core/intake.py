"""A submission's way in: its images are stored, it becomes a job beside those that came with it, tickets are sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from core import admission, credits, job_files, queue, submissions, webhook_secrets
from core.accounts import Caller
from core.database import transaction
from core.errors import InkqueueError, Unavailable
from core.idempotency import Once
from core.ids import new_id
from core.job_rows import JobToBe
from core.job_views import JobView
from core.new_jobs import NewJob
from core.origin import Origin
from core.shared_turns import SharedTurns
from core.submissions import Submission

_log = structlog.get_logger(__name__)

#: Submissions of one transaction at most.
_MOST_TOGETHER = 64


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """A submission that has become a job."""

    job: JobView
    #: Images that its submitter sends tickets for, its own or those of others too.
    rings_for: int


def submit(
    caller: Caller,
    new: NewJob,
    *,
    once: Once | None = None,
    also: Callable[[Connection, str], None] | None = None,
) -> JobView:
    """Store a job's images, then its rows and its hold in one transaction, then send tickets; the job as it begins.

    Submissions that come while a transaction runs share the next one: an account's credits are locked once for all of
    its own, and the disk is waited for once.

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
    job = JobToBe(
        id=new_id("job"),
        image_ids=[new_id("img") for _ in new.images],
        caller=caller,
        new=new,
        price=new.price,
        origin=Origin.here(),
    )
    _judge(job)
    job_files.put_images(job.id, {i: image.data for i, image in zip(job.image_ids, new.images, strict=True)})
    try:
        submission = Submission(job=job, once=once, also=also)
        # What else is written may lock what is not thought of where several are taken: it is taken by itself.
        taken = _turns.do(submission) if also is None else _take_alone(submission)
    except Unavailable:
        # Postgres may have gone after the commit: then there is a job. Without one, its files are found as orphans.
        raise
    except Exception:
        job_files.delete_files(job.id)
        raise
    # Log lines of this request name it from now on.
    structlog.contextvars.bind_contextvars(job=job.id)
    if taken.rings_for:
        queue.ring(new.model, tickets=queue.tickets_for(taken.rings_for))
    return taken.job


def _judge(job: JobToBe) -> None:
    """Refuse what is known to be refused before anything of it is stored."""
    caller, new = job.caller, job.new
    admission.queue_watch().check(new.model, new.priority)
    # Judged again under the account's lock; here it keeps those who could not pay when they were identified, before
    # their images came, from filling the disk.
    if caller.available_micro is None or caller.available_micro < job.held_micro:
        credits.check_funds(caller.account_id, job.held_micro)
    if new.webhook is not None:
        # What could never be signed is refused now, not when it is to be sent.
        with transaction() as connection:
            webhook_secrets.ensure_secret(connection, caller.account_id)


def _take_together(together: Sequence[Submission]) -> Sequence[_Taken | Exception]:
    """Take submissions; what each has become, or why it was not taken."""
    if len(together) > 1:
        try:
            return _sharing_tickets(submissions.take(together))
        except Unavailable:
            raise
        except Exception as exc:
            # One that is a defect to the database must not take the others with it.
            _log.warning("submissions are taken one by one", submissions=len(together), error=repr(exc))
    return [_taken_alone(submission) for submission in together]


def _taken_alone(submission: Submission) -> _Taken | Exception:
    try:
        return _take_alone(submission)
    except Exception as exc:
        return exc


def _take_alone(submission: Submission) -> _Taken:
    [outcome] = submissions.take([submission])
    if isinstance(outcome, InkqueueError):
        raise outcome
    return _Taken(job=outcome, rings_for=outcome.images_total)


def _sharing_tickets(outcomes: Sequence[JobView | InkqueueError]) -> list[_Taken | Exception]:
    """The first job of each model sends the tickets of all."""
    images: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, JobView):
            images[outcome.model] += outcome.images_total
    return [
        _Taken(job=outcome, rings_for=images.pop(outcome.model, 0)) if isinstance(outcome, JobView) else outcome
        for outcome in outcomes
    ]


_turns = SharedTurns(_take_together, most=_MOST_TOGETHER)


def waiting() -> int:
    """Submissions that wait for those before them to be taken, in this process."""
    return _turns.waiting
