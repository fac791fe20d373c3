"""Accounts and their API keys; a key is shown once and kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from core import credits
from core.account_tables import AccountRow, KeyRow
from core.amounts import CREDIT_MICRO
from core.errors import NotFound
from core.ids import new_id
from core.settings import settings

_KEY_PREFIX = "ink_"
_KEY_BYTES = 32


class Scope(StrEnum):
    """What a key may do; each holds those above it."""

    #: Look at jobs, credits, models, reports.
    READ = "read"
    #: Submit, cancel and delete jobs.
    JOBS = "jobs"
    #: Make, rotate and revoke the account's keys.
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who makes a request."""

    account_id: str
    key_id: str
    scopes: frozenset[str] = frozenset(Scope)
    #: Limits of the key's own, by the name of the account's setting.
    limits: Mapping[str, int] = field(default_factory=dict)
    #: What the account could spend when the key was looked up; None where nobody looked.
    available_micro: int | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the key holds this scope or a wider one."""
        wider = list(Scope)[list(Scope).index(scope) :]
        return not self.scopes.isdisjoint(wider)


@dataclass(frozen=True, kw_only=True)
class KeyTerms:
    """What a new key may do."""

    scopes: frozenset[Scope] = frozenset(Scope)
    #: None: never.
    expires_at: datetime | None = None
    #: None: no cap.
    monthly_cap_micro: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account as its operator sees it."""

    id: str
    name: str
    created_at: datetime
    suspended_at: datetime | None
    balance_micro: int
    held_micro: int
    #: Below it the account is told that credits run low, 0 never; None: the service's setting.
    low_credits_micro: int | None


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
    grant_micro = settings().signup_grant_credits * CREDIT_MICRO
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
            AccountRow.low_credits_micro,
        ).order_by(AccountRow.id)
    )
    return [Account(**row) for row in rows.mappings()]


def suspend(connection: Connection, account_id: str, *, suspended: bool = True) -> None:
    """Refuse an account's keys from now on, or take them again; jobs that were accepted are read to their end."""
    connection.execute(
        update(AccountRow).where(AccountRow.id == account_id).values(suspended_at=func.now() if suspended else None)
    )


def create_key(connection: Connection, *, account_id: str, name: str, terms: KeyTerms | None = None) -> str:
    """Make a key and return it; this is the only time that it is seen."""
    key = new_secret()
    terms = terms or KeyTerms()
    connection.execute(
        insert(KeyRow).values(
            id=new_id("key"),
            account_id=account_id,
            name=name,
            sha256=hash_key(key),
            last_four=key[-4:],
            scopes=sorted(terms.scopes),
            expires_at=terms.expires_at,
            monthly_cap_micro=terms.monthly_cap_micro,
            limits=dict(terms.limits),
        )
    )
    return key


def new_secret() -> str:
    """A key that nobody has."""
    return _KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


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


def hash_key(key: str) -> bytes:
    """What is kept of a key."""
    # 256 random bits cannot be guessed, so that a fast hash is enough (a slow one is for passwords).
    return hashlib.sha256(key.encode()).digest()
