from __future__ import annotations

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from core.database import migrate, transaction
from core.settings import settings
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
