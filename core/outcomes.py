"""The end of images: text, charge, counters and the job's state, in one transaction for all that ended together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB

from core import credits, job_events, notices, webhooks
from core.credits import Entry, EntryKind
from core.database import any_of, transaction
from core.errors import InkqueueError
from core.job_events import EventKind, Happened
from core.job_tables import ImageRow
from core.locks import LockedJob, lock_jobs
from core.notices import Changes
from core.origin import Origin
from core.states import Status, ended_as
from core.transcript import Flag, Line

# Statements that run with every image are made once: making one costs about as much as sending it.
_STANDING = (
    select(ImageRow.id, ImageRow.attempt, ImageRow.held_micro)
    .where(ImageRow.id == any_of("images"), ImageRow.status == Status.RUNNING)
    .order_by(ImageRow.id)
    .with_for_update(key_share=True)
)
_INSERT_LINES = text(
    """
    INSERT INTO lines (image_id, position, text, confidence, bbox, flags, words, token_count, pieces)
    SELECT * FROM jsonb_to_recordset(:lines) AS read (
        image_id text, position integer, text text, confidence double precision, bbox integer[], flags text[],
        words jsonb, token_count integer, pieces jsonb)
    """
).bindparams(bindparam("lines", type_=JSONB))
_END_IMAGES = text(
    """
    UPDATE images
    SET status = ended.status, error_code = ended.error_code, error_message = ended.error_message, finished_at = now()
    FROM unnest(
        CAST(:images AS text[]), CAST(:statuses AS text[]),
        CAST(:error_codes AS text[]), CAST(:error_messages AS text[])
    ) AS ended (id, status, error_code, error_message)
    WHERE images.id = ended.id
    """
)
_COUNT = text(
    """
    UPDATE jobs
    SET version = jobs.version + ended.events,
        images_done = jobs.images_done + ended.images,
        images_succeeded = jobs.images_succeeded + ended.succeeded,
        lines_done = jobs.lines_done + ended.lines,
        lines_charged = jobs.lines_charged + ended.charged,
        held_micro = jobs.held_micro - ended.settled,
        charged_micro = jobs.charged_micro + ended.captured
    FROM unnest(
        CAST(:jobs AS text[]), CAST(:events AS integer[]), CAST(:images AS integer[]), CAST(:succeeded AS integer[]),
        CAST(:lines AS integer[]), CAST(:charged AS integer[]), CAST(:settled AS bigint[]), CAST(:captured AS bigint[])
    ) AS ended (id, events, images, succeeded, lines, charged, settled, captured)
    WHERE jobs.id = ended.id
    RETURNING jobs.id, jobs.images_total, jobs.images_done, jobs.images_succeeded, jobs.version
    """
)
_END_JOBS = text(
    """
    UPDATE jobs SET status = ended.status, finished_at = now(), version = jobs.version + 1
    FROM unnest(CAST(:jobs AS text[]), CAST(:statuses AS text[])) AS ended (id, status)
    WHERE jobs.id = ended.id
    """
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the reading of one image ended: with lines, or with an error."""

    image_id: str
    job_id: str
    #: The fencing token under which it was read.
    attempt: int
    lines: tuple[Line, ...] = ()
    error: InkqueueError | None = None
    origin: Origin = field(default_factory=Origin)

    @property
    def charged_lines(self) -> int:
        """Lines that are paid for: blank ones are free."""
        return sum(Flag.BLANK not in line.flags for line in self.lines)


def finish(outcomes: Sequence[Outcome]) -> None:
    """Write how images ended; an outcome whose attempt no longer stands changes nothing."""
    with transaction() as connection:
        changes = finish_in(connection, outcomes)
    notices.tell(changes)


def finish_in(connection: Connection, outcomes: Sequence[Outcome]) -> Changes:
    """Do what `finish` does inside a transaction of the caller's; what is to be told of the jobs."""
    jobs = lock_jobs(connection, {outcome.job_id for outcome in outcomes})
    held = _end_images(connection, outcomes)
    accepted = [outcome for outcome in outcomes if outcome.image_id in held]
    if not accepted:
        return Changes()
    _insert_lines(connection, accepted)
    entries = [
        entry for outcome in accepted for entry in _entries(outcome, jobs[outcome.job_id], held[outcome.image_id])
    ]
    ended = _count(connection, accepted, entries)
    webhooks_due = webhooks.announce(connection, ended)
    webhooks_due |= credits.post(connection, entries)
    changed = {outcome.job_id for outcome in accepted}
    words = [job_id if job_id in ended else notices.going_on(job_id) for job_id in changed]
    return Changes(words=words, webhooks=webhooks_due)


def _end_images(connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
    attempts = {outcome.image_id: outcome.attempt for outcome in outcomes}
    # Locked first and compared here, so that one UPDATE can tell afterwards exactly which images it ended.
    standing = connection.execute(_STANDING, {"images": list(attempts)}).all()
    held = {row.id: row.held_micro for row in standing if row.attempt == attempts[row.id]}
    ended = [outcome for outcome in outcomes if outcome.image_id in held]
    if ended:
        connection.execute(
            _END_IMAGES,
            {
                "images": [outcome.image_id for outcome in ended],
                "statuses": [(Status.FAILED if outcome.error else Status.SUCCEEDED).value for outcome in ended],
                "error_codes": [outcome.error.code if outcome.error else None for outcome in ended],
                "error_messages": [outcome.error.message if outcome.error else None for outcome in ended],
            },
        )
    return held


def _insert_lines(connection: Connection, outcomes: Iterable[Outcome]) -> None:
    rows = [
        {
            "image_id": outcome.image_id,
            "position": line.index,
            "text": line.text,
            "confidence": line.confidence,
            "bbox": [line.bbox.xmin, line.bbox.ymin, line.bbox.xmax, line.bbox.ymax],
            "flags": [flag.value for flag in line.flags],
            "words": [{"text": word.text, "confidence": word.confidence} for word in line.words],
            "token_count": line.token_count,
            "pieces": None if line.pieces is None else [asdict(piece) for piece in line.pieces],
        }
        for outcome in outcomes
        for line in outcome.lines
    ]
    if rows:
        connection.execute(_INSERT_LINES, {"lines": rows})


def _entries(outcome: Outcome, job: LockedJob, held_micro: int) -> list[Entry]:
    captured_micro = outcome.charged_lines * job.line_price_micro
    amounts = {EntryKind.CAPTURE: captured_micro, EntryKind.RELEASE: held_micro - captured_micro}
    return [
        Entry(
            account_id=job.account_id,
            key_id=job.key_id,
            kind=kind,
            amount_micro=amount_micro,
            job_id=outcome.job_id,
            image_id=outcome.image_id,
            model=job.model,
            lines=outcome.charged_lines if kind is EntryKind.CAPTURE else None,
            submitted_at=job.created_at,
        )
        for kind, amount_micro in amounts.items()
        if amount_micro
    ]


def _count(connection: Connection, outcomes: Sequence[Outcome], entries: Sequence[Entry]) -> set[str]:
    """Count how images ended in their jobs; the jobs that ended with them."""
    by_job: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_job[outcome.job_id].append(outcome)
    happened = {job_id: [event for outcome in ended for event in _events(outcome)] for job_id, ended in by_job.items()}
    counters = [_counters(job_id, ended, happened[job_id], entries) for job_id, ended in by_job.items()]
    rows = connection.execute(_COUNT, {name: [row[name] for row in counters] for name in counters[0]}).all()
    events = [
        replace(event, version=row.version - len(happened[row.id]) + place)
        for row in rows
        for place, event in enumerate(happened[row.id], start=1)
    ]
    ends = [
        Happened.to_job(
            row.id,
            row.version + 1,
            status=ended_as(images_total=row.images_total, images_succeeded=row.images_succeeded),
        )
        for row in rows
        if row.images_done == row.images_total
    ]
    if ends:
        connection.execute(
            _END_JOBS, {"jobs": [end.job_id for end in ends], "statuses": [str(end.status) for end in ends]}
        )
    job_events.record(connection, [*events, *ends])
    return {end.job_id for end in ends}


def _counters(
    job_id: str, ended: Sequence[Outcome], happened: Sequence[Happened], entries: Sequence[Entry]
) -> dict[str, str | int]:
    """By how much a job's counters move."""
    of_job = [entry for entry in entries if entry.job_id == job_id]
    return {
        "jobs": job_id,
        "events": len(happened),
        "images": len(ended),
        "succeeded": sum(outcome.error is None for outcome in ended),
        "lines": sum(len(outcome.lines) for outcome in ended),
        "charged": sum(outcome.charged_lines for outcome in ended),
        "settled": sum(entry.amount_micro for entry in of_job),
        "captured": sum(entry.amount_micro for entry in of_job if entry.kind is EntryKind.CAPTURE),
    }


def _events(outcome: Outcome) -> list[Happened]:
    """What a stream tells of an outcome, at least one event; their versions are still open."""
    image = Happened(job_id=outcome.job_id, version=0, kind=EventKind.IMAGE, image_id=outcome.image_id)
    return [replace(image, kind=EventKind.LINE, line_position=line.index) for line in outcome.lines] or [image]
