"""The stored image files of jobs, and the removal of those that no job needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select, update

from core.database import any_of, transaction, without_row
from core.errors import Unavailable
from core.ids import made_at, new_id
from core.job_tables import JobRow
from core.locks import lock_jobs
from core.settings import settings
from core.storage import Item, Result, image_store
from core.stored_bytes import count_for_jobs

_ROOT = "images"
#: A submission stores its files before its rows; files without a job are orphans only after so long.
_ORPHAN_AGE = timedelta(hours=1)
#: Deleted jobs that one round looks at: as many as a bucket deletes at once, so that who is told to stop soon can.
_MOST_A_ROUND = 16


def put_images(job_id: str, images: Mapping[str, bytes]) -> None:
    """Store the files of a new job, by image id; when one cannot be stored, none is kept.

    Raises:
        Unavailable: The storage does not answer or is full.
    """
    store = image_store(settings())
    try:
        store.for_each(list(images), lambda image_id: store.put(_key(job_id, image_id), images[image_id]))
    except Exception:
        delete_files(job_id)
        raise


def check_writable() -> None:
    """Write a small file and remove it.

    Raises:
        Unavailable: The storage does not answer or is full.
    """
    store = image_store(settings())
    key = f"probes/{new_id('probe')}"
    store.put(key, b"?")
    store.delete_many([key])


def get_image(job_id: str, image_id: str) -> bytes:
    """The file of an image.

    Raises:
        NotFound: It is not stored any more.
        Unavailable: The storage does not answer.
    """
    return image_store(settings()).get(_key(job_id, image_id))


def for_each(items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
    """Do work that reads or writes an image for each item, several at once where each takes a trip to a bucket."""
    return image_store(settings()).for_each(items, work)


def delete_files(job_id: str) -> None:
    """Remove all files of a job.

    Raises:
        Unavailable: The storage does not answer.
    """
    image_store(settings()).delete_prefix(f"{_ROOT}/{job_id}")


def purge(job_ids: Sequence[str]) -> None:
    """Remove the files of deleted jobs, and write down of whose they are gone, and count no more.

    Raises:
        Unavailable: Postgres does not answer, or the storage, be it for the files of one job; those of the others are
            gone all the same.
    """
    failures = dict(zip(job_ids, image_store(settings()).for_each(job_ids, _failure_to_delete), strict=True))
    _write_down_as_purged([job_id for job_id, failure in failures.items() if failure is None])
    _raise_first(failures.values())


def _raise_first(failures: Iterable[Unavailable | None]) -> None:
    for failure in failures:
        if failure is not None:
            raise failure


def _failure_to_delete(job_id: str) -> Unavailable | None:
    try:
        delete_files(job_id)
    except Unavailable as exc:
        return exc
    return None


def _write_down_as_purged(job_ids: Sequence[str]) -> None:
    with transaction() as connection:
        lock_jobs(connection, job_ids)
        rows = connection.execute(
            update(JobRow)
            .where(JobRow.id == any_of("jobs"), JobRow.purged_at.is_(None))
            .values(purged_at=func.now())
            .returning(JobRow.account_id, JobRow.key_id, JobRow.stored_bytes),
            {"jobs": job_ids},
        )
        freed: Counter[tuple[str, str]] = Counter()
        for row in rows:
            freed[row.account_id, row.key_id] += row.stored_bytes
        count_for_jobs(connection, {owner: -stored_bytes for owner, stored_bytes in freed.items()})


def unpurged(connection: Connection, *, newest_first: bool = False) -> list[str]:
    """Deleted jobs whose files are still there, some at a time: those first that were deleted first, or last."""
    query = select(JobRow.id).where(JobRow.deleted_at.is_not(None), JobRow.purged_at.is_(None))
    order = JobRow.deleted_at.desc() if newest_first else JobRow.deleted_at
    return list(connection.execute(query.order_by(order).limit(_MOST_A_ROUND)).scalars())


def delete_orphans() -> list[str]:
    """Remove files whose submission was cut short before its rows were written; return the ids of the jobs-to-be.

    Raises:
        Unavailable: Postgres does not answer, or the storage, be it for one of them; the others are gone all the same.
    """
    latest = datetime.now(UTC) - _ORPHAN_AGE
    old = [job_id for job_id in image_store(settings()).folders(_ROOT) if made_at(job_id) < latest]
    orphans = without_row(JobRow.id, old)
    failures = dict(zip(orphans, image_store(settings()).for_each(orphans, _failure_to_delete), strict=True))
    _raise_first(failures.values())
    return orphans


def _key(job_id: str, image_id: str) -> str:
    return f"{_ROOT}/{job_id}/{image_id}"
