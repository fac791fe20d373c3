"""The end of images: text, charge, counters and the job's state, in one transaction for all that ended together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

from sqlalchemy import Connection, bindparam, func, insert, select, update

from core import credits, job_events, notices, webhooks
from core.credits import Entry, EntryKind
from core.database import transaction
from core.errors import InkqueueError
from core.job_events import EventKind, Happened
from core.locks import LockedJob, lock_jobs
from core.origin import Origin
from core.states import Status, ended_as
from core.tables import ImageRow, JobRow, LineRow
from core.transcript import Flag, Line


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
        changed = finish_in(connection, outcomes)
    notices.notify(notices.JOB_CHANGED, changed)


def finish_in(connection: Connection, outcomes: Sequence[Outcome]) -> list[str]:
    """Do what `finish` does inside a transaction of the caller's; return the jobs to tell of."""
    jobs = lock_jobs(connection, {outcome.job_id for outcome in outcomes})
    held = _end_images(connection, outcomes)
    accepted = [outcome for outcome in outcomes if outcome.image_id in held]
    if not accepted:
        return []
    _insert_lines(connection, accepted)
    entries = [
        entry for outcome in accepted for entry in _entries(outcome, jobs[outcome.job_id], held[outcome.image_id])
    ]
    _count(connection, accepted, entries)
    credits.post(connection, entries)
    return list({outcome.job_id for outcome in accepted})


def _end_images(connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
    attempts = {outcome.image_id: outcome.attempt for outcome in outcomes}
    # Locked first and compared here, so that one UPDATE can tell afterwards exactly which images it ended.
    standing = connection.execute(
        select(ImageRow.id, ImageRow.attempt, ImageRow.held_micro)
        .where(ImageRow.id.in_(list(attempts)), ImageRow.status == Status.RUNNING)
        .order_by(ImageRow.id)
        .with_for_update(key_share=True)
    ).all()
    held = {row.id: row.held_micro for row in standing if row.attempt == attempts[row.id]}
    changes = [
        {
            "image": outcome.image_id,
            "status": Status.FAILED if outcome.error else Status.SUCCEEDED,
            "error_code": outcome.error.code if outcome.error else None,
            "error_message": outcome.error.message if outcome.error else None,
        }
        for outcome in outcomes
        if outcome.image_id in held
    ]
    if changes:
        connection.execute(
            update(ImageRow)
            .where(ImageRow.id == bindparam("image"))
            .values(
                status=bindparam("status"),
                error_code=bindparam("error_code"),
                error_message=bindparam("error_message"),
                finished_at=func.now(),
            ),
            changes,
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
        connection.execute(insert(LineRow), rows)


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
        )
        for kind, amount_micro in amounts.items()
        if amount_micro
    ]


def _count(connection: Connection, outcomes: Sequence[Outcome], entries: Sequence[Entry]) -> None:
    captured: dict[str, int] = defaultdict(int)
    settled: dict[str, int] = defaultdict(int)
    for entry in entries:
        assert entry.job_id is not None
        settled[entry.job_id] += entry.amount_micro
        captured[entry.job_id] += entry.amount_micro if entry.kind is EntryKind.CAPTURE else 0
    by_job: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_job[outcome.job_id].append(outcome)
    events: list[Happened] = []
    for job_id, ended in by_job.items():
        happened = [event for outcome in ended for event in _events(outcome)]
        succeeded = sum(outcome.error is None for outcome in ended)
        row = connection.execute(
            update(JobRow)
            .where(JobRow.id == job_id)
            .values(
                version=JobRow.version + len(happened),
                images_done=JobRow.images_done + len(ended),
                images_succeeded=JobRow.images_succeeded + succeeded,
                lines_done=JobRow.lines_done + sum(len(outcome.lines) for outcome in ended),
                lines_charged=JobRow.lines_charged + sum(outcome.charged_lines for outcome in ended),
                held_micro=JobRow.held_micro - settled[job_id],
                charged_micro=JobRow.charged_micro + captured[job_id],
            )
            .returning(JobRow.images_total, JobRow.images_done, JobRow.images_succeeded, JobRow.version)
        ).one()
        first_version = row.version - len(happened) + 1
        events += [replace(event, version=first_version + place) for place, event in enumerate(happened)]
        if row.images_done == row.images_total:
            status = ended_as(images_total=row.images_total, images_succeeded=row.images_succeeded)
            connection.execute(
                update(JobRow)
                .where(JobRow.id == job_id)
                .values(status=status, finished_at=func.now(), version=row.version + 1)
            )
            events.append(Happened.to_job(job_id, row.version + 1, status=status))
    job_events.record(connection, events)
    webhooks.announce(connection, [event.job_id for event in events if event.kind is EventKind.DONE])


def _events(outcome: Outcome) -> list[Happened]:
    """What a stream tells of an outcome, at least one event; their versions are still open."""
    image = Happened(job_id=outcome.job_id, version=0, kind=EventKind.IMAGE, image_id=outcome.image_id)
    return [replace(image, kind=EventKind.LINE, line_position=line.index) for line in outcome.lines] or [image]
