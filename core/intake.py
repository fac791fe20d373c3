"""A submission's way in: its images are stored, it becomes a job beside those that came with it, workers are called."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import Connection

from core import admission, credits, job_files, queue, submissions, webhook_secrets
from core.accounts import Caller
from core.database import transaction
from core.errors import Contended, InkqueueError, Unavailable
from core.idempotency import Once
from core.ids import new_id
from core.job_rows import JobToBe
from core.job_views import JobView
from core.new_jobs import MAX_IMAGES, NewJob
from core.origin import Origin
from core.shared_turns import NotBegun, NotDone, SharedTurns
from core.submissions import Submission

_log = structlog.get_logger(__name__)

#: Images of one transaction: those of one job at most.
_MOST_IMAGES = MAX_IMAGES
#: A transaction takes milliseconds. Where one takes longer, those behind it take turns with others of their account.
_PATIENCE_S = 0.5
#: Who waits for an account behind others that do gives up after so long.
_HELD_UP_S = 10.0


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """A submission that has become a job."""

    job: JobView
    #: Images that its submitter calls workers for, its own or those of others too.
    rings_for: int


def submit(
    caller: Caller,
    new: NewJob,
    *,
    once: Once | None = None,
    also: Callable[[Connection, str], None] | None = None,
) -> JobView:
    """Store a job's images, then its rows and its hold in one transaction, then call workers; the job as it begins.

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
        Contended: Others hold the account for too long; nothing is kept.
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
        taken = _take(Submission(job=job, once=once, also=also))
    except Exception as exc:
        # Postgres may have gone after the commit: then there is a job. Without one, its files are found as orphans.
        if isinstance(exc, Contended) or not isinstance(exc, Unavailable):
            job_files.delete_files(job.id)
        raise
    # Log lines of this request name it from now on.
    structlog.contextvars.bind_contextvars(job=job.id)
    if taken.rings_for:
        queue.ring(new.model, images=taken.rings_for)
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


def _take(submission: Submission) -> _Taken:
    # What else is written may lock what is not thought of where several are taken: it is taken by itself.
    if submission.also is None:
        with suppress(NotDone):
            return turns.do(submission)
        try:
            return _turns_of_account(submission.job.caller.account_id).do(submission)
        except NotBegun:
            raise Contended from None
        except NotDone:
            pass
    [outcome] = submissions.take([submission])
    try:
        if isinstance(outcome, InkqueueError):
            raise outcome
        return _Taken(job=outcome, rings_for=outcome.images_total)
    finally:
        # Its traceback refers to this frame: the images would live until it is collected.
        del outcome


def _take_together(together: Sequence[Submission], *, patient: bool) -> Sequence[_Taken | Exception]:
    """Take submissions in one transaction; what each has become, or why it was not taken."""
    try:
        outcomes = submissions.take(together, patient=patient)
    except Exception as exc:
        if isinstance(exc, Contended) and not patient:
            return [NotDone() for _ in together]
        return _failed(together, exc)
    return _sharing_calls(outcomes)


def _failed(together: Sequence[Submission], failure: Exception) -> Sequence[Exception]:
    if len(together) == 1:
        return [failure]
    if isinstance(failure, Unavailable):
        # Each has one of its own: an exception refers to all that its thread did.
        return [type(failure)(failure.message) for _ in together]
    # One that is a defect to the database must not take the others with it.
    jobs = [submission.job.id for submission in together]
    _log.warning("submissions are taken one by one", jobs=jobs, error=type(failure).__name__)
    return [NotDone() for _ in together]


def _sharing_calls(outcomes: Sequence[JobView | InkqueueError]) -> list[_Taken | Exception]:
    """The first job of each model calls workers for all."""
    images: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, JobView):
            images[outcome.model] += outcome.images_total
    return [
        _Taken(job=outcome, rings_for=images.pop(outcome.model, 0)) if isinstance(outcome, JobView) else outcome
        for outcome in outcomes
    ]


def _turns(*, patient: bool, patience_s: float) -> SharedTurns[Submission, _Taken]:
    return SharedTurns(
        partial(_take_together, patient=patient),
        size=lambda submission: len(submission.job.new.images),
        most=_MOST_IMAGES,
        patience_s=patience_s,
    )


#: Of this process, for any accounts that nobody else holds.
turns = _turns(patient=False, patience_s=_PATIENCE_S)
#: Of accounts that others hold: each waits for its account over one connection.
_turns_of_accounts: WeakValueDictionary[str, SharedTurns[Submission, _Taken]] = WeakValueDictionary()
_turns_lock = threading.Lock()


def _turns_of_account(account_id: str) -> SharedTurns[Submission, _Taken]:
    with _turns_lock:
        found = _turns_of_accounts.get(account_id)
        if found is None:
            found = _turns_of_accounts[account_id] = _turns(patient=True, patience_s=_HELD_UP_S)
        return found
