"""Bodies of requests that come at the same time: they must fit into memory together."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.bodies import BodyPlaces
from core.errors import RateLimited
from tests.domain import new_key, png

MIB = 2**20
LARGE = png() + bytes(2 * MIB)


class SlowBody(io.BytesIO):
    """A body that does not come before it is let go."""

    def __init__(self) -> None:
        super().__init__(LARGE)
        self.awaited = threading.Event()
        self.go_on = threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        self.awaited.set()
        assert self.go_on.wait(10)
        return super().read(size)

    def readinto(self, buffer: object) -> int:
        self.awaited.set()
        assert self.go_on.wait(10)
        return super().readinto(buffer)  # type: ignore[arg-type]


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[BodyPlaces]:
    """Room for two large bodies, one of each account."""
    room = BodyPlaces(in_all_bytes=5 * MIB, request_bytes=2 * MIB + MIB // 2)
    monkeypatch.setattr("api.bodies.body_places", lambda: room)
    yield room


def submit(http: FlaskClient, key: str, body: io.BytesIO) -> TestResponse:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png", "Content-Length": str(len(LARGE))}
    return http.application.test_client().post("/v1/jobs", input_stream=body, headers=headers)


@pytest.mark.usefixtures("places")
def test_a_large_body_waits_for_room_that_others_hold_and_small_ones_do_not(http: FlaskClient) -> None:
    first, second, third = (new_key(name) for name in ("first", "second", "third"))
    slow = [SlowBody(), SlowBody()]
    with ThreadPoolExecutor(2) as threads:
        held = [threads.submit(submit, http, key, body) for key, body in zip((first, second), slow, strict=True)]
        assert all(body.awaited.wait(10) for body in slow)
        for key in (first, third):
            refused = submit(http, key, io.BytesIO(LARGE))
            assert (refused.status_code, refused.json["error"]["code"]) == (429, "rate_limited")  # type: ignore[index]
            assert refused.headers["Retry-After"] == "5"
        small = http.post(
            "/v1/jobs", data=png(), headers={"Authorization": f"Bearer {first}", "Content-Type": "image/png"}
        )
        assert small.status_code == 202
        for body in slow:
            body.go_on.set()
        assert [each.result(10).status_code for each in held] == [202, 202]
    assert [submit(http, key, io.BytesIO(LARGE)).status_code for key in (first, third)] == [202, 202]


@pytest.mark.usefixtures("places")
def test_a_request_that_is_refused_lets_go_of_its_room(http: FlaskClient) -> None:
    key = new_key()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for _ in range(4):
        assert http.post("/v1/jobs", data=b"[" * 2 * MIB, headers=headers).status_code == 400
    assert submit(http, key, io.BytesIO(LARGE)).status_code == 202


def test_a_body_whose_size_is_not_announced_may_be_as_large_as_any() -> None:
    room = BodyPlaces(in_all_bytes=12 * MIB, request_bytes=5 * MIB)
    with room.place("acc_1", None), pytest.raises(RateLimited), room.place("acc_1", 2 * MIB):
        pass
    with room.place("acc_1", 2 * MIB), room.place("acc_1", 4 * MIB), room.place("acc_1", MIB):
        pass


def test_one_request_always_finds_room_and_is_not_counted_beyond_what_is_read_of_it() -> None:
    room = BodyPlaces(in_all_bytes=2 * MIB, request_bytes=5 * MIB)
    for size_bytes in (5 * MIB, 500 * MIB, None):
        with room.place("acc_1", size_bytes):
            pass
