"""What an operator has to know of a service: each part looked at, and how to mend what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from redis.exceptions import RedisError, ResponseError
from sqlalchemy import func, select, text

from core import exclusive, job_files, leases
from core.backlog import backlogs, webhooks_due
from core.database import schema_revisions, transaction
from core.errors import Unavailable
from core.exclusive import Work
from core.redis_address import redis_client
from core.settings import settings

#: Postgres's oldest version that is known to do.
_POSTGRES = 15
#: Between this machine's clock and Postgres's, seconds: ids are made by the one, leases kept by the other.
_MOST_SKEW_S = 2.0
#: Of the disk that holds the images.
_LEAST_FREE_BYTES = 2 * 2**30
_LEAST_FREE_SHARE = 0.05
#: What the oldest image may have waited, seconds; as in `deploy/prometheus/alerts.yml`.
_MOST_WAIT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    part: str
    #: What there is to be said of it.
    found: str
    #: What to do about it; None: it is well.
    mend: str | None = None


def check_all(models: Sequence[str]) -> Iterator[Check]:
    """Look at everything, in the order in which one would mend it; what needs Postgres only where Postgres answers.

    Args:
        models: What has to be served.
    """
    yield _postgres()
    try:
        with transaction():
            answers = True
    except Unavailable:
        answers = False
    if answers:
        migrated = _schema()
        yield migrated
        yield _clock()
    yield _redis()
    yield _storage()
    yield from _disk()
    yield _secret_key()
    if answers and migrated.mend is None:
        yield from _workers(models)
        yield _courier()
        yield _clerk()
        yield from _queues()


def _postgres() -> Check:
    try:
        with transaction() as connection:
            version = connection.execute(text("SHOW server_version")).scalar_one().split()[0]
    except Unavailable as exc:
        why = str(getattr(exc.__cause__, "orig", exc.message))
        advice = "start Postgres, or set DATABASE_URL to where it is; address and password must be right"
        return Check(part="postgres", found=why.strip().splitlines()[0], mend=advice)
    old = int(version.split(".")[0]) < _POSTGRES
    mend = f"use Postgres {_POSTGRES} or newer" if old else None
    return Check(part="postgres", found=f"answers, version {version}", mend=mend)


def _schema() -> Check:
    with transaction() as connection:
        present, newest = schema_revisions(connection)
    if present == newest:
        return Check(part="schema", found=f"up to date ({newest})")
    if present is not None and present > newest:
        mend = "run the version of inkqueue that migrated it, or a newer one"
    else:
        mend = "inkqueue migrate"
    return Check(part="schema", found=f"{present or 'empty'}, and this version needs {newest}", mend=mend)


def _clock() -> Check:
    with transaction() as connection:
        before = datetime.now(UTC)
        theirs = connection.execute(select(func.clock_timestamp())).scalar_one()
        after = datetime.now(UTC)
    skew_s = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0.0)
    return Check(
        part="clock",
        found=f"{skew_s:.1f} s from Postgres's",
        mend="let NTP set the clocks of both machines" if skew_s > _MOST_SKEW_S else None,
    )


def _redis() -> Check:
    try:
        redis_client().ping()
        policy = _eviction_policy()
    except RedisError as exc:
        mend = "start Redis, or set REDIS_URL to where it is; jobs are taken meanwhile, and wait"
        return Check(part="redis", found=f"does not answer: {exc}", mend=mend)
    if policy in ("noeviction", None):
        return Check(part="redis", found="answers")
    mend = "redis-server --maxmemory-policy noeviction: it would throw tickets away when it is full"
    return Check(part="redis", found=f"answers, but evicts ({policy})", mend=mend)


def _eviction_policy() -> str | None:
    try:
        told = redis_client().config_get("maxmemory-policy")
    except ResponseError:
        return None  # not everybody may ask
    found = told.get("maxmemory-policy") if isinstance(told, dict) else None
    return str(found) if found is not None else None


def _storage() -> Check:
    where = settings().storage_url
    try:
        job_files.check_writable()
    except (Unavailable, ValueError) as exc:
        bucket = (
            "the AWS_ variables, the bucket and its policy" if where.startswith("s3:") else "its owner and its room"
        )
        return Check(part="storage", found=f"{where} cannot be written: {exc}", mend=f"look at {bucket}")
    return Check(part="storage", found=f"{where} can be written")


def _disk() -> Iterator[Check]:
    parts = urlsplit(settings().storage_url)
    folder = Path(url2pathname(parts.path))
    if parts.scheme != "file" or not folder.exists():
        return
    disk = shutil.disk_usage(folder)
    full = disk.free < min(_LEAST_FREE_BYTES, disk.total * _LEAST_FREE_SHARE)
    yield Check(
        part="disk",
        found=f"{disk.free / 2**30:.1f} GiB free of {disk.total / 2**30:.1f}",
        mend="make room, or set INKQUEUE_RETENTION_DAYS" if full else None,
    )


def _secret_key() -> Check:
    if settings().secret_key:
        return Check(part="secret key", found="set")
    mend = "set INKQUEUE_SECRET_KEY, the same for all processes; until then there are no webhooks"
    return Check(part="secret key", found="not set", mend=mend)


def _workers(models: Sequence[str]) -> Iterator[Check]:
    with transaction() as connection:
        living = leases.count_living(connection)
        serving = leases.workers_by_model(connection)
        devices = {model["name"]: model.get("device") for model in leases.served_models(connection)}
    if not living:
        yield Check(
            part="worker", found="none is alive", mend="inkqueue worker; if it ends by itself, its log says why"
        )
        return
    for model in sorted(serving):
        yield Check(part="worker", found=f"{model}: served by {serving[model]}, on {devices[model] or 'its device'}")
    for model in models:
        if not serving[model]:
            mend = "restart the workers with the same INKQUEUE_MODELS as this process, or start one more"
            yield Check(part="worker", found=f"{model}: served by none", mend=mend)


def _courier() -> Check:
    with transaction() as connection:
        alive = leases.is_swept(connection)
    due = f"; {webhooks_due()} webhooks are due"
    mend = "inkqueue courier: without it no webhook is sent, and lost work is not given back"
    return Check(part="courier", found=("at work" if alive else "none is at work") + due, mend=None if alive else mend)


def _clerk() -> Check:
    with transaction() as connection:
        alive = exclusive.is_done(connection, Work.BATCHES)
    mend = "inkqueue clerk: without it no batch goes on"
    return Check(part="clerk", found="at work" if alive else "none is at work", mend=None if alive else mend)


def _queues() -> Iterator[Check]:
    for backlog in backlogs():
        late = backlog.oldest_s > _MOST_WAIT_S
        mend = "start more workers; with none that serves this model, start one that does" if late else None
        found = f"{backlog.model}: {backlog.images} images wait, the oldest for {backlog.oldest_s:.0f} s"
        yield Check(part="queue", found=found, mend=mend)
