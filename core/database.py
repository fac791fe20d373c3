"""The connection to Postgres: one engine a process, transactions, and the schema's migrations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import (
    DeadlockDetected,
    IdleInTransactionSessionTimeout,
    LockNotAvailable,
    QueryCanceled,
    ReadOnlySqlTransaction,
)
from sqlalchemy import (
    CollectionAggregate,
    Connection,
    Engine,
    String,
    any_,
    bindparam,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from core.errors import Contended, Unavailable
from core.settings import settings

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_CONNECT_TIMEOUT_S = 3
#: A statement or a wait for a row's lock that takes longer is a defect; better one failed request than a pile-up.
_SESSION_OPTIONS = "-c statement_timeout=30000 -c lock_timeout=10000 -c timezone=UTC"
#: No OperationalError to psycopg, but they pass as well: this process stood still too long inside a transaction, or the
#: server writes nothing now, being no longer the primary or out of room.
_PASSING = (IdleInTransactionSessionTimeout, ReadOnlySqlTransaction)
#: The transaction is rolled back, and the database is well.
_CONTENDED = (LockNotAvailable, DeadlockDetected)
#: Over TCP, a server that vanished without a word is given up after some 10 s.
_SILENT_SERVER = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}

_IMPATIENTLY = text("SET LOCAL lock_timeout = 250")

#: Ids that one statement asks for: there may be millions.
_IDS_A_STATEMENT = 10_000
#: A connection that was used so long ago is not asked whether it is still open.
_SURELY_OPEN_S = 1.0


@lru_cache(maxsize=1)
def engine() -> Engine:
    """The engine of this process; it connects when first used, and again after Postgres was away."""
    # Whoever stands still inside a transaction keeps its locks from everybody, the sweeper included: its transaction
    # ends when a worker that is so silent is taken for dead.
    still = f"-c idle_in_transaction_session_timeout={int(1000 * settings().lease_s)}"
    made = create_engine(
        settings().database_url,
        pool_size=10,
        max_overflow=10,
        pool_timeout=5,
        # Parameters are people's texts: an error is logged without them.
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "options": f"{_SESSION_OPTIONS} {still}",
            **_SILENT_SERVER,
        },
    )
    event.listen(made, "checkin", _note_use)
    event.listen(made, "checkout", _ping_unless_just_used)
    return made


def _note_use(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _ping_unless_just_used(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
    """Find out that Postgres was restarted before somebody's statement does, without asking it before each."""
    if time.monotonic() - record.info.get("used_at", time.monotonic()) < _SURELY_OPEN_S:
        return
    try:
        engine().dialect.do_ping(connection)
    except engine().dialect.loaded_dbapi.Error as exc:
        # The pool then opens another connection in its place.
        raise DisconnectionError from exc


@contextmanager
def transaction(*, durable: bool = True, patient: bool = True) -> Iterator[Connection]:
    """One transaction: committed at the end of the block, rolled back when it raises.

    Args:
        durable: False lets the commit return before it is on disk, for facts whose loss in a crash of Postgres itself
            does no harm.
        patient: False waits for each lock a moment only.

    Raises:
        Contended: Others hold what it locks.
        Unavailable: Postgres cannot be reached, went away, or writes nothing now.
    """
    with _outages(), engine().begin() as connection:
        if not durable:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
        if not patient:
            connection.execute(_IMPATIENTLY)
        yield connection


@contextmanager
def looking() -> Iterator[Connection]:
    """A connection for statements that each see what is committed at their moment, without a transaction around them.

    For what asks one thing: a transaction takes two more trips to Postgres.

    Raises:
        Unavailable: Postgres cannot be reached or went away.
    """
    with _outages(), engine().connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as exc:
        cause = exc.orig if isinstance(exc, OperationalError) else None
        if isinstance(cause, QueryCanceled):
            raise Unavailable("the database took too long to answer this; ask for less at once") from exc
        if isinstance(cause, _CONTENDED):
            raise Contended from exc
        raise Unavailable("the database cannot be reached right now") from exc
    except DBAPIError as exc:
        if exc.connection_invalidated or isinstance(exc.orig, _PASSING):
            raise Unavailable("the database went away") from exc
        raise


def any_of(name: str) -> CollectionAggregate[bool]:
    """What a column of texts is compared with to be any of those in a parameter: one array, however many they are."""
    return any_(bindparam(name, type_=ARRAY(String)))


def without_row(column: InstrumentedAttribute[str], ids: Sequence[str]) -> list[str]:
    """Those of these ids, however many, that no row has in this column.

    Raises:
        Unavailable: Postgres cannot be reached or went away.
    """
    known: set[str] = set()
    with looking() as connection:
        for first in range(0, len(ids), _IDS_A_STATEMENT):
            asked = {"ids": ids[first : first + _IDS_A_STATEMENT]}
            known.update(connection.execute(select(column).where(column == any_of("ids")), asked).scalars())
    return [each for each in ids if each not in known]


def schema_revisions(connection: Connection) -> tuple[str | None, str]:
    """The revision of the database's schema, None for an empty one; and the newest that this version knows."""
    return MigrationContext.configure(connection).get_current_revision(), _newest_revision()


@lru_cache(maxsize=1)
def _newest_revision() -> str:
    newest = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    assert newest is not None
    return newest


def migrate(database_url: str) -> None:
    """Bring the schema of this database up to date; two at once wait for each other.

    Raises:
        Unavailable: The database cannot be reached, or a table is locked by others for too long.
    """
    configuration = Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS))
    configuration.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    try:
        command.upgrade(configuration, "head")
    except OperationalError as exc:
        raise Unavailable(f"the database cannot be brought up to date: {exc.orig}") from exc
