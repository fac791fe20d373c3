"""Whether a submission could be stored now, and what else is down."""

from __future__ import annotations

from redis.exceptions import RedisError

from core import exclusive, job_files, leases
from core.database import transaction
from core.exclusive import Work
from core.redis_address import redis_client


def degraded_parts() -> list[str]:
    """Name what is down or not warm, while submissions are still taken: `redis`, `worker`, `courier`, `clerk`.

    Raises:
        Unavailable: Postgres or the storage is away, so that no submission can be taken.
    """
    with transaction() as connection:
        alive = {
            "worker": leases.count_living(connection) > 0,
            "courier": leases.is_swept(connection),
            "clerk": exclusive.is_done(connection, Work.BATCHES),
        }
    job_files.check_writable()
    return [name for name, up in {"redis": _redis_answers(), **alive}.items() if not up]


def _redis_answers() -> bool:
    try:
        return bool(redis_client().ping())
    except RedisError:
        return False
