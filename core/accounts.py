"""Accounts and their API keys; a key is shown once and kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from core import credits
from core.errors import InvalidApiKey, NotFound
from core.ids import new_id
from core.settings import settings
from core.tables import AccountRow, KeyRow

_KEY_PREFIX = "ink_"
_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who makes a request."""

    account_id: str
    key_id: str


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account as its operator sees it."""

    id: str
    name: str
    created_at: datetime
    suspended_at: datetime | None
    balance_micro: int
    held_micro: int


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """What is known of a key after it was shown."""

    id: str
    account: str
    name: str
    last_four: str
    created_at: datetime
    revoked_at: datetime | None


def ensure_account(connection: Connection, name: str) -> str:
    """The id of the account of this name; a new one is made with its sign-up grant."""
    account_id = new_id("acc")
    made = connection.execute(
        insert_or_skip(AccountRow)
        .values(id=account_id, name=name)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(AccountRow.id)
    ).scalar_one_or_none()
    if made is None:
        return connection.execute(select(AccountRow.id).where(AccountRow.name == name)).scalar_one()
    grant_micro = settings().signup_grant_credits * credits.CREDIT_MICRO
    if grant_micro:
        credits.grant(connection, account_id=account_id, amount_micro=grant_micro, reason="sign-up")
    return account_id


def account_named(connection: Connection, name: str) -> str:
    """The id of an account by its name.

    Raises:
        NotFound: There is none of that name.
    """
    account_id = connection.execute(select(AccountRow.id).where(AccountRow.name == name)).scalar_one_or_none()
    if account_id is None:
        raise NotFound(f"there is no account named {name}")
    return account_id


def list_accounts(connection: Connection) -> list[Account]:
    """All accounts, oldest first."""
    rows = connection.execute(
        select(
            AccountRow.id,
            AccountRow.name,
            AccountRow.created_at,
            AccountRow.suspended_at,
            AccountRow.balance_micro,
            AccountRow.held_micro,
        ).order_by(AccountRow.id)
    )
    return [Account(**row) for row in rows.mappings()]


def suspend(connection: Connection, account_id: str, *, suspended: bool = True) -> None:
    """Refuse an account's keys from now on, or take them again; jobs that were accepted are read to their end."""
    connection.execute(
        update(AccountRow).where(AccountRow.id == account_id).values(suspended_at=func.now() if suspended else None)
    )


def create_key(connection: Connection, *, account_id: str, name: str) -> str:
    """Make a key and return it; this is the only time that it is seen."""
    key = _KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    connection.execute(
        insert(KeyRow).values(
            id=new_id("key"), account_id=account_id, name=name, sha256=_sha256(key), last_four=key[-4:]
        )
    )
    return key


def list_keys(connection: Connection) -> list[ApiKey]:
    """All keys, oldest first."""
    rows = connection.execute(
        select(
            KeyRow.id,
            AccountRow.name.label("account"),
            KeyRow.name,
            KeyRow.last_four,
            KeyRow.created_at,
            KeyRow.revoked_at,
        )
        .join(AccountRow, AccountRow.id == KeyRow.account_id)
        .order_by(KeyRow.id)
    )
    return [ApiKey(**row) for row in rows.mappings()]


def revoke_key(connection: Connection, key_id: str) -> None:
    """End a key at once; a revoked key stays revoked.

    Raises:
        NotFound: There is no such key.
    """
    found = connection.execute(
        update(KeyRow)
        .where(KeyRow.id == key_id)
        .values(revoked_at=func.coalesce(KeyRow.revoked_at, func.now()))
        .returning(KeyRow.id)
    ).scalar_one_or_none()
    if found is None:
        raise NotFound(f"there is no key {key_id}")


def caller_of(connection: Connection, key: str) -> Caller:
    """Who holds this key.

    Raises:
        InvalidApiKey: Nobody does, or the key was revoked, or the account is suspended.
    """
    row = connection.execute(
        select(KeyRow.account_id, KeyRow.id, AccountRow.suspended_at)
        .join(AccountRow, AccountRow.id == KeyRow.account_id)
        .where(KeyRow.sha256 == _sha256(key), KeyRow.revoked_at.is_(None))
    ).one_or_none()
    if row is None:
        raise InvalidApiKey("the API key is unknown or was revoked")
    if row.suspended_at is not None:
        raise InvalidApiKey("the account is suspended; ask whoever runs this service")
    return Caller(account_id=row.account_id, key_id=row.id)


def _sha256(key: str) -> bytes:
    # 256 random bits cannot be guessed, so that a fast hash is enough (a slow one is for passwords).
    return hashlib.sha256(key.encode()).digest()
