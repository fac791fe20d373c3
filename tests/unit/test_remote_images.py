"""Images at addresses: how much is fetched for one request."""

from __future__ import annotations

import pytest

from api import remote_images
from api.remote_images import fetch_images
from core.errors import ImageTooLarge
from core.settings import settings


def test_images_at_addresses_are_together_no_larger_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    half = bytes(settings().max_request_bytes // 2)
    monkeypatch.setattr(remote_images, "fetch_image", lambda *_: half)
    assert list(fetch_images({"a": "first", "b": "second"})) == ["a", "b"]
    with pytest.raises(ImageTooLarge, match="together"):
        fetch_images({"a": "first", "b": "second", "c": "third"})
