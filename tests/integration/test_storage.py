from __future__ import annotations

import io
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.errors import NotFound, Unavailable
from core.settings import Settings
from core.storage import ImageStore, image_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "images of mine"


@pytest.fixture
def store(folder: Path) -> ImageStore:
    return image_store(Settings(storage_url=folder.as_uri()))


def test_a_stored_image_comes_back_as_it_was(store: ImageStore) -> None:
    store.put("images/job_1/img_1", b"pixels")
    assert store.get("images/job_1/img_1") == b"pixels"


def test_a_stored_image_is_never_overwritten(store: ImageStore) -> None:
    store.put("images/job_1/img_1", b"first")
    with pytest.raises(FileExistsError):
        store.put("images/job_1/img_1", b"second")
    assert store.get("images/job_1/img_1") == b"first"


def test_of_two_writers_of_one_key_exactly_one_wins(store: ImageStore) -> None:
    def put(data: bytes) -> bool:
        try:
            store.put("images/job_1/img_1", data)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(put, [bytes([n]) * 100_000 for n in range(8)])) == 1


def test_a_folder_needs_no_threads_for_several_files(store: ImageStore) -> None:
    assert store.for_each(range(3), lambda _: threading.get_ident()) == [threading.get_ident()] * 3
    assert store.for_each([], lambda _: 1) == []


def test_an_image_that_is_gone_is_not_found(store: ImageStore) -> None:
    with pytest.raises(NotFound, match="no longer stored"):
        store.get("images/job_1/img_1")


def test_deleting_counts_what_is_already_gone_as_deleted(store: ImageStore) -> None:
    store.put("images/job_1/img_2", b"pixels")
    store.delete_many(["images/job_1/img_1", "images/job_1/img_2", "images/job_1/img_3"])
    assert store.list("images") == []


def test_deleting_nothing_is_no_error(store: ImageStore) -> None:
    store.delete_many([])
    store.delete_prefix("images/job_1")


def test_an_empty_prefix_never_deletes_everything(store: ImageStore) -> None:
    with pytest.raises(ValueError, match="empty"):
        store.delete_prefix("")


def test_deleting_a_job_leaves_its_neighbour_and_no_empty_folder(store: ImageStore, folder: Path) -> None:
    for key in ("images/job_1/img_1", "images/job_1/img_2", "images/job_12/img_3"):
        store.put(key, b"pixels")
    store.delete_prefix("images/job_1")
    assert store.list("images") == ["images/job_12/img_3"]
    assert [path.name for path in (folder / "images").iterdir()] == ["job_12"]


def test_jobs_may_come_while_the_last_one_is_deleted(store: ImageStore) -> None:
    def come_and_go(job: int) -> None:
        for image in range(30):
            store.put(f"images/job_{job}/img_{image}", b"pixels")
            store.delete_prefix(f"images/job_{job}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(come_and_go, range(8)))
    assert store.list("images") == []


def test_the_folder_is_for_its_owner_only(store: ImageStore, folder: Path) -> None:
    assert isinstance(store, ImageStore)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("key", ["../outside", "images/../../outside"])
def test_a_key_cannot_leave_the_folder(store: ImageStore, folder: Path, key: str) -> None:
    with pytest.raises(ValueError, match=r"\.\."):
        store.put(key, b"pixels")
    assert list(folder.parent.iterdir()) == [folder]


def test_a_store_that_is_gone_is_unavailable_rather_than_all_its_images_not_found(
    store: ImageStore, folder: Path
) -> None:
    folder.rmdir()
    with pytest.raises(Unavailable):
        store.put("images/job_1/img_2", b"pixels")
    with pytest.raises(Unavailable):
        store.put_stream("files/larger", io.BytesIO(b"pixels"))
    with pytest.raises(Unavailable):
        store.get("images/job_1/img_1")
    with pytest.raises(Unavailable):
        store.stream("files/large")


def test_a_store_that_cannot_be_written_is_unavailable(store: ImageStore, folder: Path) -> None:
    folder.rmdir()
    folder.write_bytes(b"a file where the folder was")
    with pytest.raises(Unavailable):
        store.put("images/job_1/img_1", b"pixels")


def test_a_killed_writer_leaves_no_half_image(store: ImageStore, folder: Path) -> None:
    (folder / "images" / "job_1").mkdir(parents=True)
    (folder / "images" / "job_1" / "img_1#1").write_bytes(b"hal")
    with pytest.raises(NotFound):
        store.get("images/job_1/img_1")
    assert store.list("images/job_1") == []
    store.put("images/job_1/img_1", b"whole")
    assert store.get("images/job_1/img_1") == b"whole"
    store.delete_prefix("images/job_1")
    assert list((folder / "images").iterdir()) == []


def test_one_process_opens_a_store_once(folder: Path) -> None:
    settings = Settings(storage_url=folder.as_uri())
    assert image_store(settings) is image_store(settings)


@pytest.mark.parametrize("url", ["images", "file://host/images", "ftp://bucket/images", "s3://", "/var/images"])
def test_an_address_that_is_no_store_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValueError, match="storage_url"):
        image_store(Settings(storage_url=url))


def test_a_bucket_is_opened_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "AWS_REGION", "eu-west-3")
    assert isinstance(image_store(Settings(storage_url="s3://lines/of/ours")), ImageStore)


def test_a_file_that_is_written_while_it_is_made_is_seen_when_it_is_whole(store: ImageStore) -> None:
    with store.writing("files/large") as file:
        for _ in range(12):
            file.write(b"x" * 1_000_000)
        assert store.list("files") == []
    assert (store.get("files/large"), file.size_bytes) == (b"x" * 12_000_000, 12_000_000)


@pytest.mark.parametrize("megabytes", [1, 12])
def test_of_a_file_that_could_not_be_made_nothing_is_left(store: ImageStore, folder: Path, megabytes: int) -> None:
    with pytest.raises(ZeroDivisionError), store.writing("files/cut short") as file:
        for _ in range(megabytes):
            file.write(b"x" * 1_000_000)
        raise ZeroDivisionError
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_file_into_which_nothing_was_written_is_none(store: ImageStore) -> None:
    with store.writing("files/empty"):
        pass
    assert store.list("files") == []


def test_a_folder_that_is_taken_away_while_a_file_is_made_is_not_made_anew(store: ImageStore, folder: Path) -> None:
    with pytest.raises(Unavailable), store.writing("files/late") as file:
        file.write(b"pixels")
        folder.rmdir()
    assert not folder.exists()


def test_what_a_killed_writer_left_is_deleted_when_nobody_writes_to_it_any_more(
    store: ImageStore, folder: Path
) -> None:
    with store.writing("files/growing") as file:
        file.write(b"x" * 6_000_000)
        (left,) = (path for path in folder.rglob("*") if path.is_file())
        killed = left.with_name("killed#1")
        killed.write_bytes(b"half a file")
        os.utime(killed, (1, 1))
        store.delete_unfinished("files", before=datetime.fromtimestamp(2, UTC))
        assert not killed.exists()
    assert store.list("files") == ["files/growing"]
