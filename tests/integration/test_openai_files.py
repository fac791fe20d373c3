"""`client.files` of OpenAI's SDK."""

from __future__ import annotations

import os
from base64 import b64encode
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from sqlalchemy import update

from core import files
from core.batch_tables import FileRow
from core.database import transaction
from core.settings import settings
from core.storage import image_store
from tests.domain import new_key, png, rows
from tests.openai_clients import client_of
from worker.cleaner import Cleaner


def test_a_file_is_uploaded_seen_downloaded_and_deleted(client: openai.OpenAI) -> None:
    data = b"pixels " * 1_000_000
    file = client.files.create(file=("../line.png", data), purpose="vision")
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(data), "line.png", "vision")
    assert client.files.retrieve(file.id) == file
    assert client.files.wait_for_processing(file.id) == file
    assert client.files.content(file.id).read() == data
    assert rows("SELECT stored_bytes FROM accounts") == [(len(data),)]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.delete(file.id)
    assert rows("SELECT stored_bytes FROM accounts") == [(0,)]
    assert file.id not in str(image_store(settings()).list("files"))


def test_files_are_listed_page_by_page(client: openai.OpenAI) -> None:
    ids = [client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="batch").id for n in range(5)]
    client.files.create(file=("line.png", b"pixels"), purpose="vision")
    assert [file.id for file in client.files.list(purpose="batch", limit=2)] == ids[::-1]
    assert [file.id for file in client.files.list(purpose="batch", order="asc", limit=2)] == ids


@pytest.mark.parametrize("file_id", ["file_01jd4000000000000000000000", "file-abc", "job_01jd4000000000000000000000"])
def test_an_unknown_file_is_not_found(client: openai.OpenAI, file_id: str) -> None:
    with pytest.raises(openai.NotFoundError):
        client.files.content(file_id)


def test_another_accounts_file_is_not_found(client: openai.OpenAI, address: str) -> None:
    file = client.files.create(file=("line.png", b"pixels"), purpose="vision")
    with client_of(address, new_key("other")) as other:
        for look in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                look(file.id)
        assert other.files.list().data == []


def test_a_purpose_that_is_unknown_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("line.png", b"pixels"), purpose="fine-tune")


def test_files_of_a_purpose_that_nobody_has_are_none_and_one_that_cannot_be_is_refused(client: openai.OpenAI) -> None:
    client.files.create(file=("line.png", png()), purpose="vision")
    assert list(client.files.list(purpose="evals")) == []
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.list(purpose="vision\0")


def test_a_file_expires_and_its_bytes_go(client: openai.OpenAI) -> None:
    file = client.files.create(
        file=("line.png", b"pixels"), purpose="vision", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at is not None
    assert abs(file.expires_at - file.created_at - 3600) <= 1
    with transaction() as connection:
        connection.execute(update(FileRow).values(expires_at=FileRow.expires_at - timedelta(hours=2)))
    Cleaner().clean()
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    assert file.id not in str(image_store(settings()).list("files"))


def test_a_file_whose_upload_was_cut_short_goes_after_some_hours() -> None:
    key = "files/file_01jd4000000000000000000000"
    image_store(settings()).put(key, b"pixels")
    assert files.delete_orphans() == [key.removeprefix("files/")]
    assert key not in image_store(settings()).list("files")


def test_what_a_killed_clerk_had_written_of_a_file_goes_after_some_hours() -> None:
    image_store(settings()).put("files/file_01jd4000000000000000000001", b"a file of that folder")
    left = Path(urlsplit(settings().storage_url).path) / "files" / "file_01jd4000000000000000000002#1"
    left.write_bytes(b"half a file")
    os.utime(left, (1, 1))
    files.delete_orphans()
    assert not left.exists()


def test_a_short_request_does_not_name_more_images_than_a_long_one_could_hold(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = client.files.create(file=("line.png", png()), purpose="vision")
    monkeypatch.setenv("INKQUEUE_MAX_REQUEST_BYTES", str(max(1024, 3 * file.bytes)))
    settings.cache_clear()
    with pytest.raises(openai.APIStatusError, match="together larger") as refused:
        client.post("/jobs", body={"images": [{"file_id": file.id}] * 1000}, cast_to=object)
    assert refused.value.status_code == 413
    monkeypatch.undo()
    settings.cache_clear()


def test_an_uploaded_image_is_read_by_its_id(client: openai.OpenAI) -> None:
    file = client.files.create(file=("line.png", png()), purpose="vision")
    job = client.post("/jobs", body={"images": [{"file_id": file.id, "key": "a"}]}, cast_to=object)
    assert isinstance(job, dict)
    assert job["status"] == "queued"
    with pytest.raises(openai.NotFoundError) as refused:
        client.post("/jobs", body={"images": [{"file_id": "file_01jd4000000000000000000000"}]}, cast_to=object)
    assert refused.value.param == "images.0.file_id"


def test_an_uploaded_image_that_is_larger_than_an_image_may_be_is_refused(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = client.files.create(file=("line.png", bytes(1025)), purpose="vision")
    monkeypatch.setenv("INKQUEUE_MAX_IMAGE_BYTES", "1024")
    settings.cache_clear()
    images = [{"base64": b64encode(png()).decode()}, {"file_id": file.id}]
    with pytest.raises(openai.APIStatusError) as refused:
        client.post("/jobs", body={"images": images}, cast_to=object)
    assert (refused.value.status_code, refused.value.param) == (413, "images.1.file_id")
    monkeypatch.undo()
    settings.cache_clear()


def test_an_expiry_that_is_counted_from_elsewhere_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="expires_after_anchor"):
        client.post(
            "/files",
            cast_to=object,
            body={"purpose": "vision", "expires_after[anchor]": "last_active_at"},
            files={"file": ("line.png", png())},
            options={"headers": {"Content-Type": "multipart/form-data"}},
        )
    assert not client.files.list().data
