"""The connection to Postgres: one engine a process, transactions, and the schema's migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from core.errors import Unavailable
from core.settings import settings

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_CONNECT_TIMEOUT_S = 3
#: A statement or a wait for a row's lock that takes longer is a defect; better one failed request than a pile-up.
_SESSION_OPTIONS = "-c statement_timeout=30000 -c lock_timeout=10000 -c timezone=UTC"
#: Over TCP, a server that vanished without a word is given up after some 10 s.
_SILENT_SERVER = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}


@lru_cache(maxsize=1)
def engine() -> Engine:
    """The engine of this process; it connects when first used, and again after Postgres was away."""
    return create_engine(
        settings().database_url,
        pool_size=5,
        max_overflow=15,
        pool_timeout=5,
        pool_pre_ping=True,
        # Parameters are people's texts: an error is logged without them.
        hide_parameters=True,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_S, "options": _SESSION_OPTIONS, **_SILENT_SERVER},
    )


@contextmanager
def transaction(*, durable: bool = True) -> Iterator[Connection]:
    """One transaction: committed at the end of the block, rolled back when it raises.

    Args:
        durable: False lets the commit return before it is on disk, for facts whose loss in a crash of Postgres itself
            does no harm.

    Raises:
        Unavailable: Postgres cannot be reached or went away.
    """
    try:
        with engine().begin() as connection:
            if not durable:
                connection.execute(text("SET LOCAL synchronous_commit = off"))
            yield connection
    except (OperationalError, PoolTimeout) as exc:
        raise Unavailable("the database cannot be reached right now") from exc
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise Unavailable("the database went away") from exc
        raise


def schema_revisions(connection: Connection) -> tuple[str | None, str]:
    """The revision of the database's schema, None for an empty one; and the newest that this version knows."""
    newest = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    assert newest is not None
    return MigrationContext.configure(connection).get_current_revision(), newest


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
