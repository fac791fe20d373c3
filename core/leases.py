"""Workers' leases: one row a worker, alive on Postgres's clock; what a dead worker held goes back to the queue."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import transaction
from core.errors import WorkerLost
from core.ids import new_id
from core.job_tables import ImageRow
from core.locks import lock_jobs
from core.notices import Changes
from core.outcomes import Outcome, finish_in
from core.settings import settings
from core.states import Status
from core.worker_tables import SweepRow, WorkerRow

#: An image that so many workers had started when they were lost is given up.
MAX_LOSSES = 3


def register(models: Sequence[dict[str, Any]]) -> str:
    """Take out a lease for a worker that serves these models (name, revision, sha256, device, ...); return its id."""
    worker_id = new_id("wrk")
    with transaction() as connection:
        connection.execute(
            insert(WorkerRow).values(id=worker_id, host=socket.gethostname(), models=list(models), expires_at=_expiry())
        )
    return worker_id


def renew(worker_id: str) -> bool:
    """Prolong a lease; False when it has run out and its images were given away, so that the worker must end."""
    with transaction() as connection:
        return (
            connection.execute(
                update(WorkerRow).where(WorkerRow.id == worker_id).values(expires_at=_expiry()).returning(WorkerRow.id)
            ).scalar_one_or_none()
            is not None
        )


def resign(worker_id: str) -> None:
    """Let a lease run out now, by one's own will: the sweeper clears it away, with anything that is still under it."""
    with transaction() as connection:
        connection.execute(update(WorkerRow).where(WorkerRow.id == worker_id).values(expires_at=func.now()))


def served_models(connection: Connection) -> list[dict[str, Any]]:
    """The models that living workers serve, each once, by name, with `created` in Unix seconds."""
    rows = connection.execute(
        select(WorkerRow.models, WorkerRow.started_at).where(WorkerRow.expires_at > func.now()).order_by(WorkerRow.id)
    )
    served = {
        model["name"]: model | {"created": int(row.started_at.timestamp())} for row in rows for model in row.models
    }
    return [served[name] for name in sorted(served)]


def workers_by_model(connection: Connection) -> Counter[str]:
    """How many living workers serve each model."""
    living = select(WorkerRow.models).where(WorkerRow.expires_at > func.now())
    return Counter(model["name"] for models in connection.execute(living).scalars() for model in models)


def count_living(connection: Connection) -> int:
    """How many workers hold a lease."""
    living = select(func.count()).select_from(WorkerRow).where(WorkerRow.expires_at > func.now())
    return connection.execute(living).scalar_one()


def note_sweep(connection: Connection) -> None:
    """Write down that a courier makes its round now."""
    now = {"swept_at": func.now()}
    connection.execute(upsert(SweepRow).values(id=1, **now).on_conflict_do_update(index_elements=["id"], set_=now))


def is_swept(connection: Connection) -> bool:
    """Whether a courier made its round within the last lease."""
    recent = select(SweepRow.swept_at > func.now() - timedelta(seconds=settings().lease_s))
    return bool(connection.execute(recent).scalar_one_or_none())


def expire_dead(connection: Connection) -> Changes:
    """End the leases of silent workers and give their images back; what is to be told of their jobs."""
    dead = [*_expired(connection), *_vanished(connection)]
    if not dead:
        return Changes()
    held = select(ImageRow.job_id).where(ImageRow.worker_id.in_(dead), ImageRow.status == Status.RUNNING)
    lock_jobs(connection, set(connection.execute(held).scalars()))
    connection.execute(
        update(ImageRow)
        .where(ImageRow.worker_id.in_(dead), ImageRow.status == Status.RUNNING, ImageRow.started_at.is_not(None))
        .values(losses=ImageRow.losses + 1)
    )
    given_up = connection.execute(
        select(ImageRow.id, ImageRow.job_id, ImageRow.attempt).where(
            ImageRow.worker_id.in_(dead), ImageRow.status == Status.RUNNING, ImageRow.losses >= MAX_LOSSES
        )
    ).all()
    changes = finish_in(
        connection,
        [Outcome(image_id=row.id, job_id=row.job_id, attempt=row.attempt, error=WorkerLost()) for row in given_up],
    )
    connection.execute(
        update(ImageRow)
        .where(ImageRow.worker_id.in_(dead), ImageRow.status == Status.RUNNING)
        .values(status=Status.QUEUED, worker_id=None, started_at=None)
    )
    connection.execute(delete(WorkerRow).where(WorkerRow.id.in_(dead)))
    return changes


def _expired(connection: Connection) -> Sequence[str]:
    expired = select(WorkerRow.id).where(WorkerRow.expires_at <= func.now()).with_for_update(skip_locked=True)
    return connection.execute(expired).scalars().all()


def _vanished(connection: Connection) -> Sequence[str]:
    """Workers without a lease that hold images: they claimed between the end of their lease and their own."""
    leased = exists().where(WorkerRow.id == ImageRow.worker_id)
    holders = select(ImageRow.worker_id).where(ImageRow.status == Status.RUNNING, ~leased).distinct()
    return [worker_id for worker_id in connection.execute(holders).scalars() if worker_id is not None]


def _expiry() -> Any:
    return func.now() + timedelta(seconds=settings().lease_s)
