from __future__ import annotations

import base64
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.image_urls import decode_base64, decode_data_url
from core.errors import MalformedRequest


@given(st.binary(max_size=200))
def test_what_was_encoded_is_decoded(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize("text", ["aW5r", " aW5r\n", "aW\r\n5r", "aW 5r"])
def test_white_space_in_base64_is_tolerated(text: str) -> None:
    assert decode_base64(text) == b"ink"


@pytest.mark.parametrize("text", ["aW5rcw==", "aW5rcw=", "aW5rcw"])
def test_missing_padding_is_tolerated(text: str) -> None:
    assert decode_base64(text) == b"inks"


@pytest.mark.parametrize("text", ["a", "aW5r!", "aW=5r", "data:;base64,aW5r", "_-==", "Schönschrift", "\0"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest, match="base64"):
        decode_base64(text)


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,aW5r",
        "DATA:image/png;BASE64,aW5r",
        "data:;base64,aW5r",
        "data:image/png;name=a.png;base64,aW5r",
        "data:image/png;base64,aW%35r",
        "data:image/png;base64,aW5r\n",
        "data:,ink",
        "data:text/plain;charset=utf-8,%69nk",
        "data:;base6,ink",
    ],
)
def test_a_data_url_is_read_in_either_encoding(url: str) -> None:
    assert decode_data_url(url) == b"ink"


def test_percent_encoded_bytes_of_every_value_are_read() -> None:
    assert decode_data_url("data:," + "".join(f"%{value:02x}" for value in range(256))) == bytes(range(256))


@pytest.mark.parametrize("url", ["data:image/png;base64", "data:", "http://example.com/a,b", "", "data:;base64,a!"])
def test_what_is_no_data_url_is_refused(url: str) -> None:
    with pytest.raises(MalformedRequest):
        decode_data_url(url)


@pytest.mark.parametrize("data", ["%", "%41"])
def test_signs_of_a_data_url_take_little_memory(data: str) -> None:
    url = "data:," + data * 100_000
    tracemalloc.start()
    try:
        decode_data_url(url)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20 * len(url)
