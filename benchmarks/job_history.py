"""A database of a service that has run for long: many ended jobs of one line, with all that is kept of them."""

from __future__ import annotations

from sqlalchemy import text

from core.database import engine

#: Of each table whose rows a job has: how a copy differs from the template's row, `{n}` being the copy's number.
_COPIES = {
    "jobs": "jsonb_build_object('id', 'job_0' || n)",
    "images": "jsonb_build_object('id', 'img_0' || n, 'job_id', 'job_0' || n, 'sequence', -n)",
    "lines": "jsonb_build_object('image_id', 'img_0' || n)",
    "job_events": "jsonb_build_object('job_id', 'job_0' || n, 'image_id', 'img_0' || n)",
    "ledger": "jsonb_build_object('id', -2 * n - (kind = 'hold')::int, 'job_id', 'job_0' || n)"
    " || CASE WHEN image_id IS NULL THEN '{}' ELSE jsonb_build_object('image_id', 'img_0' || n) END",
}
_OF_TEMPLATE = {
    "jobs": "id = :job",
    "images": "job_id = :job",
    "lines": "image_id = (SELECT id FROM images WHERE job_id = :job)",
    "job_events": "job_id = :job",
    "ledger": "job_id = :job",
}


def write_ended_jobs(jobs: int) -> None:
    """Copy an ended job of one line so many times: its rows, not its file, and without moving any total."""
    with engine().begin() as connection:
        # Foreign keys hold by the way in which the rows are made; checking each would take longer than writing them.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        template = {"job": connection.execute(text("SELECT min(id) FROM jobs WHERE images_total = 1")).scalar_one()}
        for table, change in _COPIES.items():
            connection.execute(
                text(
                    f"INSERT INTO {table} OVERRIDING SYSTEM VALUE "
                    f"SELECT (jsonb_populate_record(original, {change})).* "
                    f"FROM {table} original, generate_series(1, :copies) n WHERE {_OF_TEMPLATE[table]}"
                ),
                template | {"copies": jobs},
            )
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))
