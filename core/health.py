"""Whether a submission could be stored now, and what else is down."""

from __future__ import annotations

from redis.exceptions import RedisError

from core import exclusive, job_files, leases
from core.database import schema_revisions, transaction
from core.errors import Unavailable
from core.exclusive import Work
from core.redis_address import redis_client


def degraded_parts() -> list[str]:
    """Name what is down or not warm, while submissions are still taken: `redis`, `worker`, `courier`, `clerk`.

    Raises:
        Unavailable: Postgres or the storage is away, or the schema is not up to date, so that no submission can be
            taken.
    """
    _check_migrated()
    alive = _processes_alive()
    job_files.check_writable()
    return [name for name, up in {"redis": _redis_answers(), **alive}.items() if not up]


def parts_up() -> dict[str, bool]:
    """Whether each part of the service is up; what only Postgres knows is missing while it is away."""
    parts = {"redis": _redis_answers(), "storage": True}
    try:
        job_files.check_writable()
    except Unavailable:
        parts["storage"] = False
    try:
        return parts | {"postgres": True} | _processes_alive()
    except Unavailable:
        return parts | {"postgres": False}


def _check_migrated() -> None:
    # A new version may be started beside its migration; until that is done, the old one still serves.
    with transaction() as connection:
        present, newest = schema_revisions(connection)
    if present is None or present < newest:
        raise Unavailable("the database has to be migrated first")


def _processes_alive() -> dict[str, bool]:
    with transaction() as connection:
        return {
            "worker": leases.count_living(connection) > 0,
            "courier": leases.is_swept(connection),
            "clerk": exclusive.is_done(connection, Work.BATCHES),
        }


def _redis_answers() -> bool:
    try:
        return bool(redis_client().ping())
    except RedisError:
        return False
