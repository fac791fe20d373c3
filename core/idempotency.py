"""Submissions that may be sent twice and are taken once.

The key's row is written in the submission's own transaction, so that there is no job without its key and no key without
its job. It keeps no answer: a replay renders the job as it is now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from core.account_tables import IdempotencyRow
from core.errors import IdempotencyConflict, InkqueueError

#: How long a key is kept (Stripe's time); a caller's own id is kept as long as the job.
_KEPT = timedelta(hours=24)
_OWN_ID = "PUT "
_TRY_LOCKS = text(
    """
    SELECT pg_try_advisory_xact_lock(hashtextextended(name, 0))
    FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS asked (name, place) ORDER BY place
    """
)


@dataclass(frozen=True, kw_only=True)
class Once:
    """Under what a submission is taken once."""

    #: The `Idempotency-Key`, or the caller's own id after `PUT `.
    key: str
    #: SHA-256 of what was sent; the same key with anything else is a conflict.
    fingerprint: bytes

    @property
    def kept(self) -> timedelta | None:
        """How long; None: for ever."""
        return None if self.key.startswith(_OWN_ID) else _KEPT


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The submission that came first."""

    job_id: str
    status_code: int


class AlreadySubmitted(InkqueueError):
    """The same submission has been taken already."""

    code = "already_submitted"

    def __init__(self, earlier: Earlier) -> None:
        super().__init__()
        self.earlier = earlier


def under_own_id(client_id: str, fingerprint: bytes) -> Once:
    """What a job is taken under once that its caller gives an id."""
    return Once(key=f"{_OWN_ID}{client_id}", fingerprint=fingerprint)


def find(connection: Connection, account_id: str, once: Once) -> Earlier | None:
    """The submission that was taken under this key before, if any.

    Raises:
        IdempotencyConflict: It was another one.
    """
    row = connection.execute(
        select(IdempotencyRow.fingerprint, IdempotencyRow.job_id, IdempotencyRow.status_code).where(
            IdempotencyRow.account_id == account_id, IdempotencyRow.key == once.key, _is_kept()
        )
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != once.fingerprint:
        raise IdempotencyConflict
    return Earlier(job_id=row.job_id, status_code=row.status_code)


def job_of_own_id(connection: Connection, account_id: str, client_id: str) -> str | None:
    """The job that the caller has given this id."""
    query = select(IdempotencyRow.job_id).where(
        IdempotencyRow.account_id == account_id, IdempotencyRow.key == f"{_OWN_ID}{client_id}"
    )
    return connection.execute(query).scalar_one_or_none()


def in_progress(connection: Connection, asked: Sequence[tuple[str, str]]) -> Collection[tuple[str, str]]:
    """Those of these accounts and keys under which others take a submission just now; nobody takes one of the rest.

    Tried rather than awaited: a second one would otherwise wait for the first to commit.
    """
    if not asked:
        return ()
    names = [f"{account_id} {key}" for account_id, key in asked]
    ours = connection.execute(_TRY_LOCKS, {"names": names}).scalars()
    return {each for each, is_ours in zip(asked, ours, strict=True) if not is_ours}


def take(connection: Connection, account_id: str, once: Once, *, job_id: str, status_code: int) -> None:
    """Take a submission under its key, which is not in progress elsewhere.

    Raises:
        AlreadySubmitted: The same one has been taken since the caller looked.
        IdempotencyConflict: Another one has been taken under the key.
    """
    earlier = find(connection, account_id, once)
    if earlier is not None:
        raise AlreadySubmitted(earlier)
    values: Mapping[str, object] = {
        "fingerprint": once.fingerprint,
        "status_code": status_code,
        "job_id": job_id,
        "expires_at": func.now() + once.kept if once.kept else None,
    }
    row = upsert(IdempotencyRow).values(account_id=account_id, key=once.key, **values)
    # Only a row whose time is over can be in the way here.
    connection.execute(row.on_conflict_do_update(index_elements=["account_id", "key"], set_=dict(values)))


def forget_old(connection: Connection) -> None:
    """Remove keys whose time is over, but for those that are just taken again."""
    # Who takes several again locks them in another order.
    free = select(IdempotencyRow.account_id, IdempotencyRow.key).where(IdempotencyRow.expires_at <= func.now())
    over = tuple_(IdempotencyRow.account_id, IdempotencyRow.key).in_(free.with_for_update(skip_locked=True))
    connection.execute(delete(IdempotencyRow).where(over))


def _is_kept() -> ColumnElement[bool]:
    return or_(IdempotencyRow.expires_at.is_(None), IdempotencyRow.expires_at > func.now())
