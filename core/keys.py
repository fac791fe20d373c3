"""An account's own API keys: what each may do, how it is rotated, what it has spent."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from core.account_tables import KeyRow
from core.accounts import hash_key, new_secret
from core.errors import NotFound
from core.key_totals import captured_this_month


@dataclass(frozen=True, kw_only=True)
class KeyView:
    """A key as its account sees it."""

    id: str
    name: str
    last_four: str
    scopes: list[str]
    limits: dict[str, int]
    monthly_cap_micro: int | None
    #: What its jobs were charged in this calendar month (UTC).
    captured_micro: int
    held_micro: int
    stored_bytes: int
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


def list_own(connection: Connection, account_id: str) -> list[KeyView]:
    """The account's keys, oldest first, revoked ones too."""
    query = _views().where(KeyRow.account_id == account_id).order_by(KeyRow.id)
    return [KeyView(**row) for row in connection.execute(query).mappings()]


def own_key(connection: Connection, account_id: str, key_id: str) -> KeyView:
    """One of the account's keys.

    Raises:
        NotFound: The account has no such key.
    """
    query = _views().where(KeyRow.account_id == account_id, KeyRow.id == key_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no key {key_id}")
    return KeyView(**row)


def key_of_secret(connection: Connection, secret: str) -> KeyView:
    """The key that was just made with this secret."""
    return KeyView(**connection.execute(_views().where(KeyRow.sha256 == hash_key(secret))).mappings().one())


def revoke_own(connection: Connection, account_id: str, key_id: str) -> KeyView:
    """End one of the account's keys at once; return it.

    Raises:
        NotFound: The account has no such key.
    """
    own_key(connection, account_id, key_id)
    connection.execute(
        update(KeyRow).where(KeyRow.id == key_id).values(revoked_at=func.coalesce(KeyRow.revoked_at, func.now()))
    )
    return own_key(connection, account_id, key_id)


def rotate_own(connection: Connection, account_id: str, key_id: str, *, overlap: timedelta) -> str:
    """Give one of the account's keys a new secret and return it; the old one is taken for `overlap` yet.

    The key stays the same otherwise, so that its cap and its limits cannot be escaped by rotating it.

    Raises:
        NotFound: The account has no such key, or it was revoked.
    """
    secret = new_secret()
    rotated = connection.execute(
        update(KeyRow)
        .where(KeyRow.id == key_id, KeyRow.account_id == account_id, KeyRow.revoked_at.is_(None))
        .values(
            sha256=hash_key(secret),
            last_four=secret[-4:],
            previous_sha256=KeyRow.sha256 if overlap else None,
            previous_until=func.now() + overlap if overlap else None,
        )
        .returning(KeyRow.id)
    ).scalar_one_or_none()
    if rotated is None:
        raise NotFound(f"there is no key {key_id} to be rotated")
    return secret


def _views() -> Select[Any]:
    columns = [getattr(KeyRow, field.name) for field in fields(KeyView) if field.name != "captured_micro"]
    return select(*columns, captured_this_month(KeyRow.id).label("captured_micro"))
