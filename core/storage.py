"""The images at rest: a folder or an S3 bucket behind one small promise."""

from __future__ import annotations

import builtins
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from core.errors import NotFound, Unavailable
from core.settings import Settings

if TYPE_CHECKING:
    from obstore import WritableFile
    from obstore.store import ClientConfig, RetryConfig

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Read at once of a file that is too large to be held.
_PIECE_BYTES = 2**20
#: Held of a file that is written while it is made, and as much again is on its way: the least that S3 takes as a part.
_PART_BYTES = 5 * 2**20
#: Files of one job or claim that are on their way to or from a bucket at once.
_MOST_TRIPS = 16
#: A bucket that does not answer is said to be away within some seconds; obstore itself would try for three minutes.
#: An operator who writes `http://` in AWS_ENDPOINT_URL means it.
_S3_CLIENT: ClientConfig = {"connect_timeout": "3s", "timeout": "60s", "allow_http": True}
_S3_RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}


class FileWriter(AbstractContextManager["FileWriter"]):
    """A new file that is written while it is made; there is none where its block raises, or has written nothing."""

    def __init__(self, writer: WritableFile, refuse_new_folder: Callable[[], None]) -> None:
        self._writer = writer
        self._refuse_new_folder = refuse_new_folder
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Write what comes next.

        Raises:
            Unavailable: The store does not answer or has no room.
        """
        # obstore's writer calls all that it meets an OSError.
        with _outages(OSError):
            self._refuse_new_folder()
            self._writer.write(data)
        self.size_bytes += len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the file be seen, whole, or not at all.

        Raises:
            Unavailable: The store does not answer or has no room.
        """
        if self.size_bytes:
            with _outages(OSError):
                self._refuse_new_folder()
                self._writer.__exit__(kind, error, traceback)


class ImageStore:
    """Image files by key, such as `images/<job_id>/<image_id>`; any thread may use it.

    A file is seen whole or not at all, also when its writer is killed. Nothing is forced to disk: a power failure may
    take the last seconds of a folder's files, a bucket's not.

    Must first be used after a fork, not before it: obstore's threads do not survive one, and it then refuses to work.
    """

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store = store

    def for_each(self, items: Sequence[Item], work: Callable[[Item], Result]) -> builtins.list[Result]:
        """Do work on files of this store, and give the results in the items' order; all of it has ended by then.

        In a folder it is done here, one after another: writing 10 kB takes about 30 us. Each trip to a bucket takes
        milliseconds, most of them waiting, so that threads make several at once.

        Raises:
            Exception: The first, in the items' order, that the work raised; what had not begun by then never does.
        """
        if isinstance(self._store, LocalStore) or len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(min(len(items), _MOST_TRIPS)) as threads:
            trips = [threads.submit(work, item) for item in items]
            try:
                wait(trips, return_when=FIRST_EXCEPTION)
            finally:
                # They begin in the items' order: what is canceled comes after what has failed.
                threads.shutdown(cancel_futures=True)
        return [trip.result() for trip in trips]

    def put(self, key: str, data: bytes) -> None:
        """Write a new file.

        Raises:
            FileExistsError: The key is taken; nothing is overwritten.
            Unavailable: The store does not answer or has no room.
        """
        with _outages():
            self._refuse_new_folder()
            try:
                obstore.put(self._store, key, data, mode="create")
            except AlreadyExistsError as exc:
                raise FileExistsError(f"{key} is already stored") from exc

    def get(self, key: str) -> bytes:
        """The whole file.

        Raises:
            NotFound: It was deleted, or never stored.
            Unavailable: The store does not answer.
        """
        with _outages():
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError as exc:
                self._look_for_store()
                raise NotFound("the image is no longer stored") from exc

    def put_stream(self, key: str, data: IO[bytes]) -> int:
        """Write a file piece by piece, so that it need not fit into memory; its size. The key must be a new one.

        Raises:
            Unavailable: The store does not answer or has no room.
        """
        with _outages():
            self._refuse_new_folder()
            obstore.put(self._store, key, data)
            return int(obstore.head(self._store, key)["size"])

    def writing(self, key: str) -> FileWriter:
        """A file that is written while it is made, held nowhere as a whole. The key must be a new one.

        Raises:
            Unavailable: The folder of the store is not there.
        """
        with _outages():
            self._refuse_new_folder()
            writer = obstore.open_writer(self._store, key, buffer_size=_PART_BYTES, max_concurrency=1)
            return FileWriter(writer, self._refuse_new_folder)

    def stream(self, key: str, *, from_byte: int = 0) -> Iterator[bytes]:
        """A file piece by piece, from a place on.

        Raises:
            NotFound: It was deleted, or never stored.
            Unavailable: The store does not answer.
        """
        with _outages():
            try:
                if from_byte >= obstore.head(self._store, key)["size"]:
                    return iter(())
                found = obstore.get(self._store, key, options={"range": {"offset": from_byte}})
            except FileNotFoundError as exc:
                self._look_for_store()
                raise NotFound("the file is no longer stored") from exc
        return self._pieces(found)

    @staticmethod
    def _pieces(found: obstore.GetResult) -> Iterator[bytes]:
        pieces = iter(found.stream(min_chunk_size=_PIECE_BYTES))
        while True:
            with _outages():
                piece = next(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    def _look_for_store(self) -> None:
        """Tell a missing file from a missing store, which may come back with all its files.

        Raises:
            FileNotFoundError: The bucket or the folder is not there.
        """
        if isinstance(self._store, LocalStore):
            Path(str(self._store.prefix)).stat()
        else:
            next(iter(obstore.list(self._store, chunk_size=1)), None)

    def _refuse_new_folder(self) -> None:
        # obstore would make it anew, and then all that is in the one that was taken away would be missing.
        if isinstance(self._store, LocalStore):
            self._look_for_store()

    def list(self, prefix: str) -> list[str]:
        """The keys below a prefix of whole path segments, such as `images/<job_id>`, in no order."""
        with _outages():
            return [found["path"] for page in obstore.list(self._store, prefix) for found in page]

    def folders(self, prefix: str) -> builtins.list[str]:
        """The path segments directly below a prefix that have files below them, in no order."""
        with _outages():
            found = obstore.list_with_delimiter(self._store, prefix)
            return [path.rsplit("/", 1)[-1] for path in found["common_prefixes"]]

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete files; one that is already gone is no error."""
        with _outages():
            try:
                obstore.delete(self._store, keys)
            except FileNotFoundError:
                # A folder stops at the first key that is gone, a bucket does not mind.
                for key in keys:
                    with suppress(FileNotFoundError):
                        obstore.delete(self._store, key)

    def delete_prefix(self, prefix: str) -> None:
        """Delete all files below a prefix of whole path segments, and what a killed writer left there.

        Raises:
            ValueError: The prefix is empty, which would delete everything.
        """
        if not prefix:
            raise ValueError("an empty prefix would delete every image")
        self.delete_many(self.list(prefix))
        if isinstance(self._store, LocalStore):
            # Not obstore's automatic_cleanup: it also removes `images/` with the last job, under the next one's feet.
            shutil.rmtree(Path(str(self._store.prefix)) / prefix, ignore_errors=True)

    def delete_unfinished(self, prefix: str, *, before: datetime) -> None:
        """Delete what killed writers left directly below a prefix, and nobody wrote to since a time.

        Only a folder shows it; a bucket has rules of its own for uploads that were not completed.
        """
        if isinstance(self._store, LocalStore):
            for path in (Path(str(self._store.prefix)) / prefix).glob("*#*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before.timestamp():
                        path.unlink()


def image_store(settings: Settings) -> ImageStore:
    """The image store of this process at `storage_url`; a folder is made, for its owner only, if it is missing.

    Raises:
        ValueError: The address is neither `file:///folder` nor `s3://bucket/prefix`.
        Unavailable: The folder is missing and cannot be made.
    """
    return _opened(settings.storage_url)


@lru_cache(maxsize=8)
def _opened(url: str) -> ImageStore:
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return ImageStore(S3Store.from_url(url, client_options=_S3_CLIENT, retry_config=_S3_RETRIES))
    folder = Path(url2pathname(parts.path))
    if parts.scheme != "file" or parts.netloc or not folder.is_absolute():
        raise ValueError(f"storage_url must be file:///folder or s3://bucket/prefix, not {url!r}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise Unavailable(f"the folder of the images cannot be made: {exc.strerror}") from exc
    return ImageStore(LocalStore(prefix=folder))


@contextmanager
def _outages(*also: type[Exception]) -> Iterator[None]:
    # obstore calls a missing bucket, and a folder that was taken away, a file that is not found.
    outages: tuple[type[Exception], ...] = (BaseError, PermissionError, FileNotFoundError, *also)
    try:
        yield
    except outages as exc:
        raise Unavailable("the image store cannot be used right now; try again later") from exc
