"""What a worker does to images before they end: claim the most urgent, mark them as started, give them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection, Row, text, tuple_, update

from core import job_events, notices, webhooks
from core.database import looking, transaction
from core.job_tables import ImageRow
from core.locks import lock_jobs
from core.origin import Origin
from core.reading_options import ReadingOptions
from core.states import Mode, Priority, Status

_log = structlog.get_logger(__name__)

#: A claim that lost all its candidates to other workers looks again, so often at most.
_TRIES = 3

# Who is next: strictly by priority; within one, accounts take turns (those with more running images later); within
# an account by age. The recursion hops from one waiting (priority, account) to the next along the index, so that the
# cost grows with the accounts that wait, not with their images.
# Their jobs are started in passing, which a claim does before it takes images, in the order of locks; a job that
# somebody else holds is started by the next claim. As arrays, few ids are looked up however many jobs there are: of a
# join the planner thinks that it finds many.
_NEXT = text(
    """
    WITH RECURSIVE waiting AS (
        (SELECT priority, account_id FROM images
         WHERE status = 'queued' AND model = :model AND priority <= :least
         ORDER BY priority, account_id LIMIT 1)
        UNION ALL
        SELECT following.priority, following.account_id FROM waiting CROSS JOIN LATERAL (
            SELECT priority, account_id FROM images
            WHERE status = 'queued' AND model = :model AND priority <= :least
              AND (priority, account_id) > (waiting.priority, waiting.account_id)
            ORDER BY priority, account_id LIMIT 1) following
    ), candidates AS MATERIALIZED (
        SELECT candidate.id, candidate.job_id, candidate.losses, candidate.beams
        FROM waiting
        CROSS JOIN LATERAL (
            SELECT count(*) AS images FROM images
            WHERE status = 'running' AND account_id = waiting.account_id AND model = :model) running
        CROSS JOIN LATERAL (
            SELECT id, job_id, losses, beams, sequence, row_number() OVER (ORDER BY sequence) AS place FROM (
                SELECT id, job_id, losses, beams, sequence FROM images
                WHERE status = 'queued' AND model = :model
                  AND priority = waiting.priority AND account_id = waiting.account_id
                ORDER BY sequence LIMIT :most) oldest) candidate
        ORDER BY waiting.priority, running.images + candidate.place, candidate.sequence
        LIMIT :most
    ), free_jobs AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = ANY(ARRAY(SELECT job_id FROM candidates)) AND status = 'queued'
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ), started AS (
        UPDATE jobs SET status = 'running', started_at = now(), version = version + 1
        WHERE id = ANY(ARRAY(SELECT id FROM free_jobs))
        RETURNING id, version
    )
    SELECT candidates.id, candidates.job_id, candidates.losses, candidates.beams, started.version AS started_version
    FROM candidates LEFT JOIN started ON started.id = candidates.job_id
    """
)

_TAKE = text(
    """
    UPDATE images SET status = 'running', worker_id = :worker, attempt = images.attempt + 1,
        started_at = CASE WHEN :starts AND images.losses = 0 THEN now() END
    FROM (
        SELECT images.id, jobs.origin FROM images JOIN jobs ON jobs.id = images.job_id
        WHERE images.id = ANY(CAST(:images AS text[])) AND images.status = 'queued' AND jobs.status = 'running'
        FOR UPDATE OF images SKIP LOCKED) free
    WHERE images.id = free.id
    RETURNING images.id, job_id, attempt, mode, priority, losses, sequence, width, height,
              beams, max_new_tokens, top_logprobs, watched, images.started_at IS NOT NULL AS started, free.origin
    """
)

# An image that somebody else holds is about to be canceled: waiting for it here could end in a deadlock. Nor does it
# wait for the disk: a mark that a crash of Postgres itself takes along does no harm.
_MARK_STARTED = text(
    """
    WITH lazily AS (SELECT set_config('synchronous_commit', 'off', true))
    UPDATE images SET started_at = now()
    FROM (
        SELECT images.id
        FROM lazily, images
        JOIN unnest(CAST(:images AS text[]), CAST(:attempts AS integer[])) AS starting (id, attempt)
            ON images.id = starting.id AND images.attempt = starting.attempt
        WHERE images.status = 'running'
        FOR UPDATE OF images SKIP LOCKED) ours
    WHERE images.id = ours.id
    """
)

_TAKEN = text("SELECT id AS image_id, job_id, attempt FROM images WHERE worker_id = :worker AND status = 'running'")

_WAITING = text(
    """
    WITH RECURSIVE waiting AS (
        (SELECT model FROM images WHERE status = 'queued' ORDER BY model LIMIT 1)
        UNION ALL
        SELECT following.model FROM waiting CROSS JOIN LATERAL (
            SELECT model FROM images
            WHERE status = 'queued' AND model > waiting.model ORDER BY model LIMIT 1) following
    )
    SELECT waiting.model, counted.images
    FROM waiting CROSS JOIN LATERAL (
        SELECT count(*) AS images FROM (
            SELECT 1 FROM images WHERE status = 'queued' AND model = waiting.model LIMIT :most) first_ones) counted
    """
)

_COUNT_AHEAD = text(
    """
    SELECT count(*) FROM (
        SELECT FROM images WHERE status = 'queued' AND model = :model AND priority <= :least LIMIT :most) ahead
    """
)

# The oldest of each (priority, account) is the first of its stretch of the index; ids sort by time of making.
_OLDEST = text(
    """
    WITH RECURSIVE waiting AS (
        (SELECT priority, account_id, id FROM images
         WHERE status = 'queued' AND model = :model AND priority <= :least
         ORDER BY priority, account_id, sequence LIMIT 1)
        UNION ALL
        SELECT following.priority, following.account_id, following.id FROM waiting CROSS JOIN LATERAL (
            SELECT priority, account_id, id FROM images
            WHERE status = 'queued' AND model = :model AND priority <= :least
              AND (priority, account_id) > (waiting.priority, waiting.account_id)
            ORDER BY priority, account_id, sequence LIMIT 1) following
    )
    SELECT min(id) FROM waiting
    """
)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An image that this worker may read, until its lease or this attempt ends."""

    image_id: str
    job_id: str
    #: The fencing token.
    attempt: int
    mode: Mode
    priority: Priority
    #: Of the upright image, in pixels.
    width: int
    height: int
    #: Whether a worker was lost when this image was started, so that it must be read alone.
    suspect: bool
    #: Whether the claim has marked it as started.
    started: bool
    #: What its caller asks of the reading.
    options: ReadingOptions
    origin: Origin


def claim(worker_id: str, model: str, *, most: int, least: Priority = Priority.BULK, free_rows: int = 0) -> list[Claim]:
    """Take up to `most` images that wait for this model, the most urgent first, none less urgent than `least`.

    Fewer mean that no others wait, but for those whose jobs others hold, or have taken first several times over.

    Args:
        worker_id: Whose lease they are under.
        model: Which model.
        most: How many at most.
        least: The least urgent.
        free_rows: About how many rows the model has for them at once, each beam taking one. Images that fit are marked
            as started in passing, as `mark_started` does it, which saves a trip. None are where a suspect is among
            them: it was lost in earnest, and must not be counted as lost again before the model has it, nor others
            with it.
    """
    claims: list[Claim] = []
    for _ in range(_TRIES):
        try:
            candidates, taken = _claim(
                worker_id, model, most=most - len(claims), least=least, free_rows=free_rows - _rows_of(claims)
            )
        except Exception as exc:
            # What was taken already must be read.
            if not claims:
                raise
            _log.warning("a claim was cut short", model=model, error=repr(exc))
            return claims
        claims += taken
        if len(taken) == candidates or len(claims) == most:
            break
    return claims


def _rows_of(claims: Sequence[Claim]) -> int:
    return sum(claim.options.beams for claim in claims)


def _claim(worker_id: str, model: str, *, most: int, least: Priority, free_rows: int) -> tuple[int, list[Claim]]:
    """How many images were to be had, and those of them that nobody else got first."""
    with transaction() as connection:
        candidates = connection.execute(_NEXT, {"model": model, "most": most, "least": least}).all()
        if not candidates:
            return 0, []
        started = {row.job_id: row.started_version for row in candidates if row.started_version is not None}
        job_events.record(
            connection,
            [job_events.Happened.to_job(job_id, version, status=Status.RUNNING) for job_id, version in started.items()],
        )
        webhooks_due = webhooks.announce(connection, started)
        starts = sum(row.beams for row in candidates) <= free_rows and not any(row.losses for row in candidates)
        taken = connection.execute(
            _TAKE, {"worker": worker_id, "images": [row.id for row in candidates], "starts": starts}
        ).all()
    words = [notices.going_on(job_id) for job_id in started]
    notices.tell(notices.Changes(words=words, webhooks=webhooks_due))
    return len(candidates), [_claim_of(row) for row in sorted(taken, key=lambda row: (row.priority, row.sequence))]


def _claim_of(row: Row[Any]) -> Claim:
    return Claim(
        image_id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        mode=Mode(row.mode),
        priority=Priority(row.priority),
        width=row.width,
        height=row.height,
        suspect=row.losses > 0,
        started=row.started,
        options=ReadingOptions(
            beams=row.beams, max_new_tokens=row.max_new_tokens, top_logprobs=row.top_logprobs, watched=row.watched
        ),
        origin=Origin.read(row.origin),
    )


def mark_started(claims: Sequence[Claim]) -> None:
    """Write down that these images go to the model now, or soon: if the worker is lost, they are the suspects."""
    # The model waits for it: one trip to Postgres.
    with looking() as connection:
        connection.execute(
            _MARK_STARTED,
            {"images": [claim.image_id for claim in claims], "attempts": [claim.attempt for claim in claims]},
        )


class Taken(Protocol):
    """An image that a worker has taken, and under which attempt."""

    @property
    def image_id(self) -> str:
        """Which image."""

    @property
    def job_id(self) -> str:
        """Of which job."""

    @property
    def attempt(self) -> int:
        """The fencing token."""


def taken_by(worker_id: str) -> Sequence[Taken]:
    """All images that a worker has taken and that have not ended, as Postgres says."""
    with looking() as connection:
        return connection.execute(_TAKEN, {"worker": worker_id}).all()


def give_back(claims: Sequence[Taken]) -> None:
    """Return images unread to the queue, without a loss; those that ended meanwhile stay as they are."""
    if not claims:
        return
    with transaction() as connection:
        lock_jobs(connection, {claim.job_id for claim in claims})
        connection.execute(
            update(ImageRow)
            .where(
                tuple_(ImageRow.id, ImageRow.attempt).in_([(claim.image_id, claim.attempt) for claim in claims]),
                ImageRow.status == Status.RUNNING,
            )
            .values(status=Status.QUEUED, worker_id=None, started_at=None)
        )


def count_ahead(connection: Connection, model: str, priority: Priority, *, most: int) -> int:
    """How many images wait for a model that are at least as urgent as this, counted up to `most`."""
    asked = {"model": model, "least": priority, "most": most}
    ahead: int = connection.execute(_COUNT_AHEAD, asked).scalar_one()
    return ahead


def oldest_waiting(connection: Connection, model: str, priority: Priority) -> str | None:
    """The image that has waited longest for a model among those that are at least as urgent as this; its id."""
    oldest: str | None = connection.execute(_OLDEST, {"model": model, "least": priority}).scalar_one()
    return oldest


def waiting_images(connection: Connection, *, most: int) -> dict[str, int]:
    """How many images wait for each model, counted up to `most`."""
    rows = connection.execute(_WAITING, {"most": most})
    return {row.model: row.images for row in rows}
