"""`POST /v1/ocr` in Mistral's shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.domain import MODEL, new_key, png, rows
from tests.fakes import FakeRecognizer
from tests.openai_clients import client_of, data_url

LINE = data_url(png())


@pytest.fixture
def http(address: str, worker: FakeRecognizer) -> Iterator[httpx.Client]:
    del worker
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {new_key()}"}, timeout=30) as client:
        yield client


@pytest.mark.parametrize(
    "document",
    [
        {"type": "image_url", "image_url": LINE},
        {"type": "image_url", "image_url": {"url": LINE, "detail": "auto"}},
        {"type": "document_url", "document_url": LINE, "document_name": "line.png"},
    ],
)
def test_a_document_is_read_as_one_page(http: httpx.Client, document: dict[str, Any]) -> None:
    answer = http.post("/v1/ocr", json={"model": MODEL, "document": document, "include_image_base64": False})
    assert answer.status_code == 200, answer.text
    ((image_id,),) = rows("SELECT id FROM images")
    body = answer.json()
    assert body["pages"] == [
        {
            "index": 0,
            "markdown": f"text of {image_id}",
            "images": [],
            "dimensions": {"dpi": 0, "height": 8, "width": 40},
        }
    ]
    assert body["model"] == MODEL
    assert body["usage_info"] == {"pages_processed": 1, "doc_size_bytes": None, "ocr": {"lines": 1, "credits": 1.5}}


def test_an_uploaded_document_is_read(http: httpx.Client, address: str) -> None:
    with client_of(address, http.headers["Authorization"].removeprefix("Bearer ")) as client:
        file_id = client.files.create(file=("line.png", png()), purpose="vision").id
    answer = http.post("/v1/ocr", json={"model": MODEL, "document": {"type": "file", "file_id": file_id}})
    assert answer.json()["pages"][0]["markdown"].startswith("text of img_")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"document": {"type": "image_url", "image_url": data_url(b"%PDF-1.7")}}, 415, "document.image_url"),
        ({"document": {"type": "image_url", "image_url": "http://10.0.0.1/a.png"}}, 422, "document.image_url"),
        ({"document": {"type": "image_url", "image_url": LINE}, "pages": [1]}, 400, "pages"),
        ({"document": {"type": "image_url", "image_url": LINE}, "table_format": "html"}, 400, "table_format"),
    ],
)
def test_what_cannot_be_read_is_named(http: httpx.Client, body: dict[str, Any], status: int, param: str) -> None:
    answer = http.post("/v1/ocr", json={"model": MODEL} | body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
