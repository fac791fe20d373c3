"""Images at addresses: how much is fetched for one request."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from api import remote_images
from api.remote_images import FetchingPlaces, fetch_images
from core.errors import ImageTooLarge, RateLimited
from core.settings import settings


def test_images_at_addresses_are_together_no_larger_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    half = bytes(settings().max_request_bytes // 2)
    monkeypatch.setattr(remote_images, "fetch_image", lambda *_: half)
    assert list(fetch_images({"a": "first", "b": "second"}, account_id="acc_1")) == ["a", "b"]
    with pytest.raises(ImageTooLarge, match="together"):
        fetch_images({"a": "first", "b": "second", "c": "third"}, account_id="acc_1")


def test_requests_that_wait_for_others_servers_leave_threads_for_the_rest() -> None:
    places = FetchingPlaces(threads=1024)
    with ExitStack() as taken:
        for account in ("acc_1", "acc_2", "acc_3", "acc_4"):
            for _ in range(32):  # 1024 / 32
                taken.enter_context(places.place(account))
            with pytest.raises(RateLimited), places.place(account):
                pass
        with pytest.raises(RateLimited) as refused, places.place("acc_5"):  # 4 * 32 = 1024 / 8
            pass
        assert refused.value.retry_after_s == 5
    with places.place("acc_5"):
        pass


def test_images_are_fetched_in_a_place_that_is_free_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    places = FetchingPlaces(threads=8)  # at least 8 an account
    monkeypatch.setattr(remote_images, "fetching_places", lambda: places)
    monkeypatch.setattr(remote_images, "fetch_image", lambda *_: b"pixels")
    with ExitStack() as taken:
        for _ in range(7):
            taken.enter_context(places.place("acc_1"))
        for _ in range(2):
            assert fetch_images({"a": "there"}, account_id="acc_1") == {"a": b"pixels"}
        taken.enter_context(places.place("acc_1"))
        assert fetch_images({}, account_id="acc_1") == {}
        with pytest.raises(RateLimited):
            fetch_images({"a": "there"}, account_id="acc_1")
