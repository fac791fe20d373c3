"""Who makes a request: the account and the key behind a secret, looked up for all who ask at the same time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import ARRAY, Connection, LargeBinary, Row, and_, any_, bindparam, case, func, or_, select, update

from core.account_tables import AccountRow, KeyRow
from core.accounts import Caller, hash_key
from core.database import any_of, looking, transaction
from core.errors import InvalidApiKey, Unavailable
from core.shared_turns import NotDone, SharedTurns

#: When a key was last used is known to the minute, so that not every request writes.
_USED_TO = timedelta(minutes=1)
#: Keys of one statement.
_MOST_KEYS = 64
#: A look takes milliseconds. Where one takes longer, those behind it look by themselves.
_PATIENCE_S = 0.5

_ASKED = any_(bindparam("hashes", type_=ARRAY(LargeBinary)))
_STILL_VALID = KeyRow.previous_until > func.now()
# Every request runs it: made once, since making a statement costs about as much as sending it.
_HOLDERS = (
    select(
        KeyRow.sha256,
        case((_STILL_VALID, KeyRow.previous_sha256)).label("previous_sha256"),
        KeyRow.account_id,
        KeyRow.id,
        KeyRow.scopes,
        KeyRow.limits,
        or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at < func.now() - _USED_TO).label("unused"),
        AccountRow.suspended_at,
        (AccountRow.balance_micro - AccountRow.held_micro).label("available_micro"),
    )
    .join(AccountRow, AccountRow.id == KeyRow.account_id)
    .where(
        or_(KeyRow.sha256 == _ASKED, and_(KeyRow.previous_sha256 == _ASKED, _STILL_VALID)),
        KeyRow.revoked_at.is_(None),
        or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > func.now()),
    )
)


def identify(key: str) -> Caller:
    """Who holds this key, asked of Postgres now, together with whoever else asks at the same time.

    Raises:
        InvalidApiKey: Nobody does, or the key was revoked or has expired, or the account is suspended.
        Unavailable: Postgres cannot be reached.
    """
    with suppress(NotDone):
        return turns.do(key)
    return _only(_identify_together([key]))


def caller_of(connection: Connection, key: str) -> Caller:
    """Who holds this key.

    Raises:
        InvalidApiKey: Nobody does, or the key was revoked or has expired, or the account is suspended.
    """
    return _only([_caller(row) for row in _holders(connection, [key])])


def caller_of_key(connection: Connection, key_id: str) -> Caller:
    """Whoever holds the key of this id, for what it began and others go on with.

    Raises:
        InvalidApiKey: The key was revoked or has expired, or the account is suspended.
    """
    row = connection.execute(
        select(KeyRow.account_id, KeyRow.id, KeyRow.scopes, KeyRow.limits)
        .join(AccountRow, AccountRow.id == KeyRow.account_id)
        .where(
            KeyRow.id == key_id,
            KeyRow.revoked_at.is_(None),
            or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > func.now()),
            AccountRow.suspended_at.is_(None),
        )
    ).one_or_none()
    if row is None:
        raise InvalidApiKey("the API key has expired or was revoked, or its account is suspended")
    return Caller(account_id=row.account_id, key_id=row.id, scopes=frozenset(row.scopes), limits=row.limits)


def _identify_together(keys: Sequence[str]) -> list[Caller | InvalidApiKey]:
    """Who holds each of these keys, or why nobody does."""
    with looking() as connection:
        holders = _holders(connection, keys)
    found = [_caller(row) for row in holders]
    used = {row.id for row, each in zip(holders, found, strict=True) if row and row.unused and isinstance(each, Caller)}
    if used:
        _note_use(used)
    return found


#: Of this process.
turns: SharedTurns[str, Caller] = SharedTurns(
    _identify_together, size=lambda _: 1, most=_MOST_KEYS, patience_s=_PATIENCE_S
)


def _only(found: Sequence[Caller | InvalidApiKey]) -> Caller:
    [caller] = found
    try:
        if isinstance(caller, InvalidApiKey):
            raise caller
        return caller
    finally:
        # The exception's traceback refers to this frame: the request would live until it is collected.
        del found, caller


def _holders(connection: Connection, keys: Sequence[str]) -> list[Row[Any] | None]:
    hashes = [hash_key(key) for key in keys]
    rows = connection.execute(_HOLDERS, {"hashes": list(set(hashes))}).all()
    by_hash = {row.previous_sha256: row for row in rows} | {row.sha256: row for row in rows}
    return [by_hash.get(each) for each in hashes]


def _caller(row: Row[Any] | None) -> Caller | InvalidApiKey:
    if row is None:
        return InvalidApiKey("the API key is unknown, has expired or was revoked")
    if row.suspended_at is not None:
        return InvalidApiKey("the account is suspended; ask whoever runs this service")
    return Caller(
        account_id=row.account_id,
        key_id=row.id,
        scopes=frozenset(row.scopes),
        limits=row.limits,
        available_micro=row.available_micro,
    )


def _note_use(key_ids: Collection[str]) -> None:
    # A key whose totals are just being moved is used anyway: waiting for it here would slow down every request.
    free = select(KeyRow.id).where(KeyRow.id == any_of("ids")).with_for_update(skip_locked=True, key_share=True)
    used = update(KeyRow).where(KeyRow.id.in_(free)).values(last_used_at=func.now())
    # Who was found is answered all the same, at the latest a moment later, and the next request notes it.
    with suppress(Unavailable), transaction(durable=False, patient=False) as connection:
        connection.execute(used, {"ids": list(key_ids)})
