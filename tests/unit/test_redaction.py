from __future__ import annotations

import pytest

from core.redaction import redact_record, redacted


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("key ink_Q0QfMPfcw6xaPZjuccWhGPeT-_x is bad", "key ink_*** is bad"),
        ("signed with whsec_uAKwsu47stNhzer92CL7FZ+/eZnzEEL=.", "signed with whsec_***."),
        ("Authorization: Bearer sk-abc.def", "Authorization: Bearer ***"),
        ("b'Basic dXNlcjpwYXNz'", "b'Basic ***'"),
        ("postgresql+psycopg://inkqueue:p@ss/w@db:5432/inkqueue", "postgresql+psycopg://***@db:5432/inkqueue"),
        ("redis://:secret@redis:6379/0 is away", "redis://***@redis:6379/0 is away"),
        ("s3://bucket/prefix is full", "s3://bucket/prefix is full"),
        ("see http://example.org/a.png?X-Amz-Signature=ab12&b=c then", "see http://example.org/a.png?*** then"),
        ("GET /v1/jobs?metadata[name]=Dupont failed", "GET /v1/jobs?*** failed"),
        ("is it so? a = b", "is it so? a = b"),
        ("url: data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==", "url: data:***"),
        ("duplicate\nDETAIL:  Key (key_hash)=(ab12).\n[SQL: x]", "duplicate\nDETAIL: ***\n[SQL: x]"),
        ("bad\nDETAIL:  a\\nb\nof it\nCONTEXT:  JSON: {D\n\nTraceback", "bad\nDETAIL: ***\nCONTEXT: ***\n\nTraceback"),
        (r"Error('bad\nDETAIL:  Key (a)=(b)\nmore\nCONTEXT:  {D}')", r"Error('bad\nDETAIL: ***"),
        ("the ssl context: as it is", "the ssl context: as it is"),
        ("an inkwell, a basic file, whsec_ and data: none", "an inkwell, a basic ***, whsec_ and data: none"),
    ],
)
def test_secrets_are_taken_out_and_the_rest_stays(said: str, shown: str) -> None:
    assert redacted(said) == shown


def test_every_value_of_a_record_is_looked_at() -> None:
    record = {
        "event": "failed",
        "ms": 3,
        "error": ValueError("redis://:secret@redis"),
        "models": ["ppocr-v6", "whsec_abcdefghij"],
        "more": {"url": "http://u:p@example.org/"},
    }
    assert redact_record(None, "info", record) == {
        "event": "failed",
        "ms": 3,
        "error": "ValueError('redis://***@redis')",
        "models": ["ppocr-v6", "whsec_***"],
        "more": {"url": "http://***@example.org/"},
    }
