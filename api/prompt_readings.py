"""Requests that are answered with a text: the same jobs as all others, submitted and then waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from api.idempotency import take_once
from api.live_texts import Ear, live_texts
from api.problems import error_of_code
from api.rate_limits import count_lines
from api.waiting import RECHECK_S, Watch, has_ended, job_waits
from core import intake, jobs
from core.accounts import Caller
from core.database import transaction
from core.errors import (
    AlreadyFinished,
    Canceled,
    Gone,
    InkqueueError,
    NotFound,
    RateLimited,
    Superseded,
    Unavailable,
)
from core.idempotency import Earlier, Once
from core.job_views import JobView
from core.new_jobs import NewJob
from core.readings import Reading, reading
from core.states import Status
from core.transcript import rows_of

#: OpenAI's clients give up after ten minutes.
_LONGEST_WAIT_S = 600.0
#: The status of an answer that nobody reads, as nginx has it in its log.
CLIENT_CLOSED_REQUEST = 499
#: How often a client's socket is looked at.
_LOOK_S = 0.5
#: A comment so often keeps proxies from closing a stream.
_KEEP_ALIVE_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A job that somebody waits for."""

    caller: Caller
    job_id: str
    #: Its client may come back for it: then its going away does not cancel it.
    may_come_back: bool


class ClientGone(Exception):
    """Nobody is there any more to be answered."""


def submitted(
    caller: Caller,
    once: Once | None,
    new: Callable[[], NewJob],
    *,
    may_come_back: bool = False,
    waits: bool = True,
) -> Prompt:
    """Submit a job, or find the one that the same request submitted before.

    Args:
        caller: Who asks.
        once: Under what it is taken once.
        new: Reads and judges the request; not called for one that came before.
        may_come_back: Whether its client may look for the answer later, also without a key.
        waits: Whether its client waits for the answer now.

    Raises:
        RateLimited: Too many wait already; nothing is submitted.
        InkqueueError: What else is wrong with it.
    """
    if waits and not job_waits().has_room(caller):
        raise _too_many_wait()
    job_id = _job_of(caller, once, new)
    return Prompt(caller=caller, job_id=job_id, may_come_back=may_come_back or once is not None)


def _job_of(caller: Caller, once: Once | None, new: Callable[[], NewJob]) -> str:
    def take() -> JobView:
        job = new()
        count_lines(caller, len(job.images))
        return intake.submit(caller, job, once=once)

    taken = take_once(caller.account_id, once, take)
    return taken.job_id if isinstance(taken, Earlier) else taken.id


def read_whole(prompt: Prompt, is_there: Callable[[], bool]) -> Reading:
    """Wait for a job's end; what it read.

    Args:
        prompt: The job.
        is_there: Whether the client is.

    Raises:
        ClientGone: It is not.
        RateLimited: Too many wait already.
        InkqueueError: Why an image could not be read.
    """
    with _waiting(prompt, is_there) as wait:
        while not has_ended(prompt.caller, prompt.job_id):
            wait.pause()
    return all_read(_read(prompt))


def read_growing(prompt: Prompt, is_there: Callable[[], bool]) -> Generator[str | None, None, Reading]:
    """The text of a job piece by piece, as far as it is settled; None keeps the connection alive.

    The first piece is empty, and comes at once: the request has its place among those who wait. What workers tell of a
    line that is being read is taken as it comes; a line that ended counts as Postgres has it.

    Args:
        prompt: The job.
        is_there: Whether the client is.

    Returns:
        The whole, whose text the pieces were.

    Raises:
        ClientGone: It is not there.
        RateLimited: Too many wait already.
        Superseded: A line was read again after its worker was lost, and not as it began the first time.
        InkqueueError: Why an image could not be read.
    """
    ear = Ear()
    sent, told_at = "", time.monotonic()
    with _waiting(prompt, is_there) as wait, job_waits().waking(prompt.job_id, ear):
        found = _read(prompt)
        with live_texts().heard_by(ear, [image.id for image in found.images]):
            yield ""
            while not found.status.terminal:
                beginning = _beginning(found, ear)
                if beginning.startswith(sent) and beginning != sent:
                    yield beginning[len(sent) :]
                    sent, told_at = beginning, time.monotonic()
                elif time.monotonic() - told_at > _KEEP_ALIVE_S:
                    yield None
                    told_at = time.monotonic()
                if wait.hear(ear):
                    found = _read(prompt)
    whole = all_read(found)
    if not whole.text.startswith(sent):
        raise Superseded(f"a line was read again and differs from what was streamed: GET /v1/jobs/{prompt.job_id}")
    if whole.text != sent:
        yield whole.text[len(sent) :]
    return whole


class _Wait:
    """One request's place among those who wait."""

    def __init__(self, watch: Watch, is_there: Callable[[], bool], *, may_come_back: bool) -> None:
        self._watch = watch
        self._is_there = is_there
        self._may_come_back = may_come_back
        self._ends_at = time.monotonic() + _LONGEST_WAIT_S
        self._looked_at = time.monotonic()

    def pause(self) -> None:
        """Wait until the job is worth a look."""
        self._looked_at = time.monotonic()
        while not self._watch.pause(_LOOK_S) and not self._is_due():
            self._check()
        self._check()

    def hear(self, ear: Ear) -> bool:
        """Wait until something is heard; whether the job is worth a look."""
        self._check()
        due = ear.wait(_LOOK_S) or self._is_due()
        if due:
            self._looked_at = time.monotonic()
        return due

    def _is_due(self) -> bool:
        return time.monotonic() - self._looked_at > RECHECK_S

    def _check(self) -> None:
        if not self._is_there():
            raise ClientGone
        if self._watch.over:
            raise Unavailable("the service is about to end; send the request again")
        if time.monotonic() > self._ends_at:
            end = "goes on: ask for it again the same way" if self._may_come_back else "was given up, free"
            raise Unavailable(f"it was not read within {_LONGEST_WAIT_S:.0f} s, and {end}")


@contextmanager
def _waiting(prompt: Prompt, is_there: Callable[[], bool]) -> Iterator[_Wait]:
    """Have a place; whoever leaves it before the job ends gives the job up."""
    try:
        with job_waits().watching(prompt.caller, prompt.job_id, until_end=True) as watch:
            if not watch.admitted:
                raise _too_many_wait()
            yield _Wait(watch, is_there, may_come_back=prompt.may_come_back)
    except BaseException:
        if not prompt.may_come_back:
            with suppress(AlreadyFinished, NotFound, Gone):
                jobs.cancel(prompt.caller, prompt.job_id)
        raise


def _too_many_wait() -> RateLimited:
    return RateLimited("too many requests of this account wait for their answers; wait for one of them")


def _read(prompt: Prompt) -> Reading:
    with transaction() as connection:
        return reading(connection, prompt.caller, prompt.job_id)


def _beginning(found: Reading, ear: Ear) -> str:
    """How the text begins: rows that ended, then as much as is settled of the next one."""
    rows: list[str | None] = []
    for image in found.images:
        ended = image.status is Status.SUCCEEDED
        rows.append(image.text if ended else ear.text_of(image.id))
        if not ended:
            break
    return rows_of(rows)


def all_read(found: Reading) -> Reading:
    """A reading whose images were all read.

    Raises:
        Canceled: They were not.
        InkqueueError: Why the first one could not be read.
    """
    error = why_unread(found)
    if error is None:
        return found
    if found.lines_charged:
        raise error_of_code(
            error.code,
            f"{error.message}; the rows that were read are charged: GET /v1/jobs/{found.job_id}",
            param=error.param,
        )
    raise error


def why_unread(found: Reading) -> InkqueueError | None:
    """Why the first image of a reading was not read; None where all were."""
    failed = next((image for image in found.images if image.error is not None), None)
    if failed is not None and failed.error is not None:
        return error_of_code(failed.error.code, failed.error.message, param=failed.key)
    if any(image.status is not Status.SUCCEEDED for image in found.images):
        return Canceled(f"the job was {found.status} before it was read")
    return None
