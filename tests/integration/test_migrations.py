from __future__ import annotations

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from core.database import migrate, transaction
from core.settings import settings
from tests.domain import rows
from tests.tables import Base


def test_the_migrations_make_exactly_the_tables_of_core() -> None:
    with transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_last_migration_steps_down_and_up_again() -> None:
    configuration = Config()
    configuration.set_main_option("script_location", "migrations")
    configuration.set_main_option("sqlalchemy.url", settings().database_url.replace("%", "%%"))
    command.downgrade(configuration, "-1")
    migrate(settings().database_url)
    test_the_migrations_make_exactly_the_tables_of_core()


def test_what_serves_as_a_queue_is_vacuumed_early() -> None:
    early = "'autovacuum_vacuum_scale_factor=0.02' = ANY(reloptions) AND 'vacuum_index_cleanup=on' = ANY(reloptions)"
    tables = rows(f"SELECT relname FROM pg_class WHERE relkind = 'r' AND {early} ORDER BY relname")
    assert tables == [("images",), ("jobs",), ("webhook_deliveries",)]
