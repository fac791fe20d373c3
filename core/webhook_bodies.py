"""What a webhook says: its bytes, below the size that every receiver takes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from core.job_tables import ImageRow, JobRow, LineRow
from core.transcript import whole_text

#: Standard Webhooks 1.0.0, section "Payload size": small enough for every receiver.
MAX_BODY_BYTES = 20_000
#: What is left of them for the data; the rest is for what stands around it.
_MOST_DATA_BYTES = MAX_BODY_BYTES - 2_000
#: Lines beyond these cannot fit; they are not even read.
_MOST_LINES = 10_000


def body(*, event: str, event_id: str, created_at: datetime, data: dict[str, Any]) -> bytes:
    """The bytes of a webhook, to be signed and sent as they are; the same for every attempt, below 20 KB.

    Args:
        event: The type.
        event_id: The `webhook-id`.
        created_at: When the event happened.
        data: What happened; what is too long in it is left out, and a field says so.
    """
    whole = {"id": event_id, "object": "event", "type": event, "timestamp": rfc3339(created_at), "data": data}
    return _json(whole)


def fitting(data: dict[str, Any], text: str | None) -> dict[str, Any]:
    """The data with the job's text, if any, cut so that the body stays below its limit.

    Metadata of the largest kind leave, text is cut at its end; `metadata_truncated` and `text_truncated` say so.
    """
    if len(_json(data)) > _MOST_DATA_BYTES:
        data = data | {"metadata": {}, "metadata_truncated": True}
    if text is None:
        return data
    room = _MOST_DATA_BYTES - len(_json(data))
    cut = _cut(text, room)
    return data | {"text": cut, "text_truncated": len(cut) < len(text)}


def _cut(text: str, room: int) -> str:
    """The longest beginning of a text that takes at most so many bytes as JSON."""
    text = text[:room]
    while len(_json(text)) > room:
        # Escapes make it longer than its characters: a few rounds get there.
        text = text[: len(text) * room // (len(_json(text)) + 1)]
    return text


def job_text(connection: Connection, job_id: str) -> str | None:
    """As much of a job's text as could fit into a webhook; None when the job was deleted."""
    deleted_at = connection.execute(select(JobRow.deleted_at).where(JobRow.id == job_id)).one_or_none()
    if deleted_at is None or deleted_at[0] is not None:
        return None
    texts = connection.execute(
        select(LineRow.text)
        .join(ImageRow, ImageRow.id == LineRow.image_id)
        .where(ImageRow.job_id == job_id)
        .order_by(ImageRow.position, LineRow.position)
        .limit(_MOST_LINES)
    ).scalars()
    return whole_text(list(texts))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def rfc3339(at: datetime | None) -> str | None:
    """A time as it stands in JSON."""
    return at.isoformat().replace("+00:00", "Z") if at else None
