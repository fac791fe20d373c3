from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.webhook_bodies import MAX_BODY_BYTES, body, fitting

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def whole(data: dict[str, object], text: str | None) -> bytes:
    return body(event="job.completed", event_id="evt_1", created_at=NOW, data=fitting(data, text))


def long_texts(longest: int) -> st.SearchStrategy[str]:
    """Of any characters, up to this length; a few of them again and again, since to draw each takes long."""
    return st.builds(lambda text, length: (text * length)[:length], st.text(max_size=20), st.integers(0, longest))


@given(long_texts(30_000), st.dictionaries(long_texts(64), long_texts(512), max_size=16))
def test_a_body_is_below_twenty_kilobytes_whatever_was_read(text: str, metadata: dict[str, str]) -> None:
    assert len(whole({"id": "job_1", "metadata": metadata}, text)) <= MAX_BODY_BYTES


@pytest.mark.parametrize("character", ["a", "é", "界", "😀", '"', "\n", "\x01"])
def test_a_long_text_is_cut_and_says_so(character: str) -> None:
    sent = whole({"id": "job_1", "metadata": {}}, character * 40_000)
    data = json.loads(sent)["data"]
    assert data["text_truncated"] is True
    assert MAX_BODY_BYTES * 0.8 < len(sent) <= MAX_BODY_BYTES


def test_a_short_text_comes_whole() -> None:
    data = json.loads(whole({"id": "job_1", "metadata": {"box": "12"}}, "irlandais"))["data"]
    assert data == {"id": "job_1", "metadata": {"box": "12"}, "text": "irlandais", "text_truncated": False}


def test_the_largest_metadata_are_left_out_and_it_says_so() -> None:
    metadata = {f"{i:064}": "界" * 512 for i in range(16)}
    data = json.loads(whole({"id": "job_1", "metadata": metadata}, None))["data"]
    assert data == {"id": "job_1", "metadata": {}, "metadata_truncated": True}
