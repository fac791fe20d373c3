"""Files of callers: uploaded images and batches, and what batches wrote; rows in Postgres, bytes in the storage."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select

from core import admission
from core.accounts import Caller
from core.batch_tables import FileRow
from core.database import looking, transaction, without_row
from core.errors import NotFound, Unavailable
from core.ids import made_at, new_id
from core.settings import settings
from core.storage import FileWriter, image_store
from core.stored_bytes import count_for_account

#: Of files that batches write.
OUTPUT_PURPOSE = "batch_output"
_ROOT = "files"
#: A file is stored before its row; without a row it is an orphan only after so long.
_ORPHAN_AGE = timedelta(hours=6)
#: Expired files that one round of the cleaner deletes.
_MOST_A_ROUND = 100


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """What is known of a file beside its bytes."""

    id: str
    purpose: str
    filename: str
    size_bytes: int
    created_at: datetime
    #: None: it is kept until it is deleted.
    expires_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """Bytes that are stored, and are nobody's yet."""

    id: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class GrowingFile:
    """A file whose bytes are stored while they are made."""

    id: str
    writer: FileWriter

    def write(self, data: bytes) -> None:
        """Write what comes next.

        Raises:
            Unavailable: The storage does not answer.
        """
        self.writer.write(data)

    @property
    def stored(self) -> NewFile | None:
        """What is stored when its block has ended; None where nothing was written."""
        return NewFile(id=self.id, size_bytes=self.writer.size_bytes) if self.writer.size_bytes else None


def store(
    account_id: str,
    data: IO[bytes],
    *,
    purpose: str,
    filename: str,
    expires_after_s: int | None = None,
) -> StoredFile:
    """Store a file, without holding it in memory.

    Raises:
        RateLimited: The account has no room for it; nothing is kept.
        Unavailable: The storage or Postgres does not answer; nothing is kept, unless Postgres went just when it had
            taken the file.
    """
    new = _put(data)
    with kept_if_added([new]), transaction() as connection:
        return add(connection, account_id, new, purpose=purpose, filename=filename, expires_after_s=expires_after_s)


def _put(data: IO[bytes]) -> NewFile:
    file_id = new_id("file")
    return NewFile(id=file_id, size_bytes=image_store(settings()).put_stream(_key(file_id), data))


@contextmanager
def growing() -> Iterator[GrowingFile]:
    """A file that is to be added, and is stored while it is made; there is none where the block raises.

    Without being added it is deleted as an orphan's.

    Raises:
        Unavailable: The storage does not answer.
    """
    file_id = new_id("file")
    with image_store(settings()).writing(_key(file_id)) as writer:
        yield GrowingFile(id=file_id, writer=writer)


@contextmanager
def kept_if_added(new: Sequence[NewFile]) -> Iterator[None]:
    """Delete bytes again where the transaction in the block, which adds them, comes to nothing."""
    try:
        yield
    except Unavailable:
        # Postgres may have gone after the commit: then there is a file. Without one, its bytes are found as orphans.
        raise
    except Exception:
        delete_bytes([file.id for file in new])
        raise


def add(
    connection: Connection,
    account_id: str,
    new: NewFile,
    *,
    purpose: str,
    filename: str,
    expires_after_s: int | None,
) -> StoredFile:
    """Make stored bytes a file of an account's; the account is locked from here to the commit.

    Raises:
        RateLimited: The account has no room for it.
    """
    row = connection.execute(
        insert(FileRow)
        .values(
            id=new.id,
            account_id=account_id,
            purpose=purpose,
            filename=filename,
            size_bytes=new.size_bytes,
            expires_at=func.now() + timedelta(seconds=expires_after_s) if expires_after_s else None,
        )
        .returning(FileRow.__table__)
    ).one()
    admission.take_storage(connection, account_id, new.size_bytes, limited=purpose != OUTPUT_PURPOSE)
    return _view(row)


def find(connection: Connection, account_id: str, file_id: str) -> StoredFile:
    """One of an account's files.

    Raises:
        NotFound: It has no such file.
    """
    row = connection.execute(_all_rows().where(*_owned(account_id, file_id))).one_or_none()
    if row is None:
        raise NotFound(f"there is no file {file_id}")
    return _view(row)


def list_files(
    connection: Connection, caller: Caller, *, purpose: str | None, after: str | None, most: int, newest_first: bool
) -> list[StoredFile]:
    """The caller's files; `after` is the id of the last one of the page before."""
    query = _all_rows().where(FileRow.account_id == caller.account_id)
    if purpose is not None:
        query = query.where(FileRow.purpose == purpose)
    if after is not None:
        query = query.where(FileRow.id < after if newest_first else FileRow.id > after)
    order = FileRow.id.desc() if newest_first else FileRow.id
    return [_view(row) for row in connection.execute(query.order_by(order).limit(most))]


def content(file_id: str, *, from_byte: int = 0) -> Iterator[bytes]:
    """The bytes of a file from a place on, in pieces.

    Raises:
        NotFound: It is not stored any more.
        Unavailable: The storage does not answer.
    """
    return image_store(settings()).stream(_key(file_id), from_byte=from_byte)


def sizes(account_id: str, file_ids: Collection[str]) -> dict[str, int]:
    """How many bytes each of these files has, those left out that are not the account's."""
    with looking() as connection:
        rows = connection.execute(
            select(FileRow.id, FileRow.size_bytes).where(FileRow.account_id == account_id, FileRow.id.in_(file_ids))
        )
        return {row.id: row.size_bytes for row in rows}


def remove(caller: Caller, file_id: str) -> None:
    """Delete one of the caller's files.

    Raises:
        NotFound: The account has no such file.
        Unavailable: The storage does not answer.
    """
    with transaction() as connection:
        rows = connection.execute(_all_rows().where(*_owned(caller.account_id, file_id)).with_for_update()).all()
        _remove_rows(connection, rows)
    if not rows:
        raise NotFound(f"there is no file {file_id}")
    delete_bytes([file_id])


def expire(connection: Connection) -> list[str]:
    """Delete the rows of files whose time is over; their ids, for `delete_bytes` after the commit."""
    due = _all_rows().where(FileRow.expires_at <= func.now()).order_by(FileRow.account_id).limit(_MOST_A_ROUND)
    return _remove_rows(connection, connection.execute(due.with_for_update(skip_locked=True)).all())


def delete_bytes(file_ids: Sequence[str]) -> None:
    """Delete what is stored of files that have no row any more.

    Raises:
        Unavailable: The storage does not answer; `delete_orphans` does it later.
    """
    image_store(settings()).delete_many([_key(file_id) for file_id in file_ids])


def delete_orphans() -> list[str]:
    """Delete stored files without a row: their upload was cut short, or their writing, or their deletion.

    Raises:
        Unavailable: The storage or Postgres does not answer.
    """
    latest = datetime.now(UTC) - _ORPHAN_AGE
    image_store(settings()).delete_unfinished(_ROOT, before=latest)
    stored = [key.rsplit("/", 1)[-1] for key in image_store(settings()).list(_ROOT)]
    old = [file_id for file_id in stored if made_at(file_id) < latest]
    orphans = without_row(FileRow.id, old)
    delete_bytes(orphans)
    return orphans


def _key(file_id: str) -> str:
    return f"{_ROOT}/{file_id}"


def _all_rows() -> Select[Any]:
    return select(FileRow.__table__)


def _owned(account_id: str, file_id: str) -> tuple[ColumnElement[bool], ...]:
    return FileRow.id == file_id, FileRow.account_id == account_id


def _remove_rows(connection: Connection, rows: Sequence[Row[Any]]) -> list[str]:
    file_ids = [row.id for row in rows]
    connection.execute(delete(FileRow).where(FileRow.id.in_(file_ids)))
    for row in rows:
        count_for_account(connection, row.account_id, -row.size_bytes)
    return file_ids


def _view(row: Row[Any]) -> StoredFile:
    return StoredFile(
        id=row.id,
        purpose=row.purpose,
        filename=row.filename,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
