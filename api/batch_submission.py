"""The next requests of a batch become jobs, as far as there is room and credit; nothing is fetched for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import structlog

from api.batch_requests import lines_asked, read_line
from api.jsonl import FileLine
from api.problems import described
from api.prompt_jobs import AskedLines
from api.remote_images import FETCHING_CLERKS
from core import batch_requests, identification, intake, standings
from core.accounts import Caller
from core.admission import queue_watch
from core.amounts import credits_of
from core.batch_requests import BatchRequest, RequestOutcome
from core.batches import Batch
from core.database import transaction
from core.errors import (
    InkqueueError,
    InsufficientCredits,
    InvalidApiKey,
    KeyBudgetExceeded,
    QueueFull,
    RateLimited,
    Unavailable,
)
from core.funds import Funds, funds_of
from core.new_jobs import MAX_IMAGES, NewImage, NewJob
from core.states import Priority

#: What lets a batch wait: it goes on when there is room, or when what running jobs hold is settled.
NO_ROOM = (RateLimited, InsufficientCredits, KeyBudgetExceeded, Unavailable)
#: Bytes of images that are in memory at once, at most with those of a few requests more.
SLICE_BYTES = 16 * 2**20
#: Images that are fetched and judged at once, or those of one request.
_JUDGES = FETCHING_CLERKS

_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request and what it asks for, or, where it is refused, nothing."""

    request: BatchRequest
    lines: AskedLines | None


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A request with its images, or, where one of them is bad, without."""

    request: BatchRequest
    job: NewJob | None


def submit_requests(batch: Batch, lines: Sequence[FileLine], *, last_try: bool) -> FileLine:
    """Submit the first of these requests, as many as there is room for; return the last that is done with.

    Those that a clerk before this one had submitted are left alone.

    Args:
        batch: Whose requests.
        lines: Consecutive lines of its file.
        last_try: Fail a request alone that meets a defect of ours, rather than raise it.

    Raises:
        RateLimited: There is no room for the first one now.
        InsufficientCredits: Running jobs hold what the first one costs.
        KeyBudgetExceeded: As above, of the key's own cap.
        Unavailable: Postgres or the storage does not answer.
    """
    with transaction() as connection:
        recorded = batch_requests.recorded_lines(connection, batch, from_line=lines[0].number)
        new = [line for line in lines if line.number not in recorded]
        if not new:
            return lines[-1]
        try:
            holder = identification.caller_of_key(connection, batch.key_id)
        except InvalidApiKey as error:
            batch_requests.record(connection, batch, [_failed(_request(line), error) for line in new])
            return lines[-1]
        standings.check_room(connection, holder)
        funds = funds_of(connection, holder)
    asked = [_asked(batch, line, last_try=last_try) for line in new]
    taken, why = _with_room(asked, funds)
    last = lines[-1] if why is None else _line_before(lines, new[len(taken)], why)
    for judged in _judged_together(batch, taken, last_try=last_try):
        _submit_judged(batch, holder, judged, last_try=last_try)
    return last


def _line_before(lines: Sequence[FileLine], line: FileLine, why: InkqueueError) -> FileLine:
    place = lines.index(line)
    if place == 0:
        raise why
    return lines[place - 1]


def _request(line: FileLine) -> BatchRequest:
    return BatchRequest(line=line.number, custom_id=read_line(line).custom_id)


def _failed(request: BatchRequest, error: InkqueueError) -> BatchRequest:
    status, body = described(error, as_openai=True)
    return replace(request, outcome=RequestOutcome.FAILED, error_status=status, error=body)


def _asked(batch: Batch, line: FileLine, *, last_try: bool) -> _Asked:
    read = read_line(line)
    request = BatchRequest(line=line.number, custom_id=read.custom_id)
    found = _unless_refused(batch, request, lambda: lines_asked(read, batch.id), last_try=last_try)
    if isinstance(found, BatchRequest):
        return _Asked(request=found, lines=None)
    return _Asked(request=request, lines=found)


def _unless_refused(
    batch: Batch, request: BatchRequest, judge: Callable[[], _Result], *, last_try: bool
) -> _Result | BatchRequest:
    """What a judgement gives, or the request, failed by its error."""
    try:
        return judge()
    except Unavailable:
        raise
    except InkqueueError as error:
        return _failed(request, error)
    except Exception as exc:
        if not last_try:
            raise
        return _given_up(batch, request, exc)


def _given_up(batch: Batch, request: BatchRequest, exc: Exception) -> BatchRequest:
    _log.error("a request met a defect and is given up", batch=batch.id, line=request.line, exc_info=exc)
    return _failed(request, InkqueueError("something went wrong here; the batch's id finds it in the log"))


def _with_room(asked: Sequence[_Asked], funds: Funds) -> tuple[list[_Asked], InkqueueError | None]:
    """The first requests, as far as there is room in the queue and credit; and why the next one waits."""
    taken: list[_Asked] = []
    available_micro = funds.available_micro
    for one in asked:
        if one.lines is None:
            taken.append(one)
            continue
        try:
            queue_watch().check(one.lines.model, Priority.BULK)
        except QueueFull as full:
            return taken, full
        needed_micro = one.lines.held_micro
        if needed_micro <= available_micro:
            available_micro -= needed_micro
            taken.append(one)
        elif needed_micro <= funds.in_all_micro:
            return taken, InsufficientCredits("running jobs hold the credits that the next request needs")
        else:
            taken.append(_Asked(request=_failed(one.request, _too_dear(needed_micro, funds)), lines=None))
    return taken, None


def _too_dear(needed_micro: int, funds: Funds) -> InsufficientCredits:
    needed, left = credits_of(needed_micro), credits_of(max(0, funds.in_all_micro))
    return InsufficientCredits(f"the account, or its key, has too few credits: {needed} needed, {left} left")


def _judged_together(batch: Batch, asked: Sequence[_Asked], *, last_try: bool) -> Iterator[list[_Judged]]:
    """Requests with their images, as many at a time as may be in memory: a short line can name many large images."""
    judged: list[_Judged] = []
    with ThreadPoolExecutor(_JUDGES) as pool:
        for few in _few(asked):
            judged += pool.map(partial(_judge, batch, last_try=last_try), few)
            if sum(one.job.stored_bytes for one in judged if one.job) >= SLICE_BYTES:
                yield judged
                judged = []
    yield judged


def _few(asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
    few: list[_Asked] = []
    images = 0
    for one in asked:
        more = len(one.lines.images) if one.lines else 0
        if few and images + more > _JUDGES:
            yield few
            few, images = [], 0
        few.append(one)
        images += more
    yield few


def _judge(batch: Batch, asked: _Asked, *, last_try: bool) -> _Judged:
    if asked.lines is None:
        return _Judged(request=asked.request, job=None)
    found = _unless_refused(batch, asked.request, partial(asked.lines.job, batch.account_id), last_try=last_try)
    if isinstance(found, BatchRequest):
        return _Judged(request=found, job=None)
    return _Judged(request=asked.request, job=found)


def _submit_judged(batch: Batch, holder: Caller, judged: Sequence[_Judged], *, last_try: bool) -> None:
    with transaction() as connection:
        batch_requests.record(connection, batch, [one.request for one in judged if one.job is None])
    for group in _groups(judged):
        _submit_together(batch, holder, group, last_try=last_try)


def _groups(judged: Sequence[_Judged]) -> Iterator[list[_Judged]]:
    """Requests that one job can read: they ask for the same, and are not too many."""
    groups: dict[object, list[_Judged]] = {}
    for one in judged:
        if one.job is not None:
            alike = (one.job.model, one.job.reading, tuple(sorted(one.job.metadata.items())))
            group = groups.setdefault(alike, [])
            if sum(len(other.job.images) for other in group if other.job) + len(one.job.images) > MAX_IMAGES:
                yield groups.pop(alike)
                group = groups.setdefault(alike, [])
            group.append(one)
    yield from groups.values()


def _submit_together(batch: Batch, holder: Caller, group: Sequence[_Judged], *, last_try: bool) -> None:
    """Submit requests as one job; where that meets a defect at the last try, by halves, so that one fails alone."""
    placed: list[BatchRequest] = []
    images: list[NewImage] = []
    for one in group:
        assert one.job is not None  # they were sorted out
        placed.append(replace(one.request, first_image=len(images), images=len(one.job.images)))
        images += one.job.images
    first = group[0].job
    assert first is not None
    try:
        intake.submit(
            holder, replace(first, images=images), also=partial(batch_requests.record_submitted, batch, placed)
        )
    except InkqueueError:
        raise
    except Exception as exc:
        if not last_try:
            raise
        if len(group) > 1:
            for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                _submit_together(batch, holder, half, last_try=last_try)
        else:
            with transaction() as connection:
                batch_requests.record(connection, batch, [_given_up(batch, group[0].request, exc)])
