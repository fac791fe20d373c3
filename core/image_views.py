"""The images of a job as its callers see them, with what was read in each, or why nothing was."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, Row, bindparam, select
from sqlalchemy.dialects.postgresql import distinct_on

from core.job_tables import ImageRow, LineRow
from core.states import Status
from core.transcript import Alternative, BoundingBox, Flag, Line, Token, Word, joined_text

# Statements that run with every job are made once: making one costs about as much as sending it.
_IMAGES = (
    select(ImageRow.__table__)
    .where(ImageRow.job_id == bindparam("job"), ImageRow.position > bindparam("after"))
    .order_by(ImageRow.position)
    .limit(bindparam("most", type_=Integer))
)
_LINES = (
    select(LineRow.__table__)
    .where(LineRow.image_id.in_(bindparam("images", expanding=True)))
    .order_by(LineRow.image_id, LineRow.position)
)


@dataclass(frozen=True, kw_only=True)
class ErrorView:
    """Why something failed."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """One image of a job and what was read in it."""

    id: str
    key: str | None
    index: int
    status: Status
    width: int
    height: int
    error: ErrorView | None
    lines: tuple[Line, ...]

    @property
    def text(self) -> str | None:
        """The lines' texts in reading order; None while it has not been read."""
        return joined_text(self.lines) if self.status is Status.SUCCEEDED else None


def image_views(
    connection: Connection, job_id: str, *, after: int = -1, most: int | None = None
) -> tuple[ImageView, ...]:
    """Images of a job in order with their lines: those behind index `after`, at most so many."""
    rows = connection.execute(_IMAGES, {"job": job_id, "after": after, "most": most}).all()
    lines = _lines(connection, [row.id for row in rows if Status(row.status) is Status.SUCCEEDED])
    return tuple(
        ImageView(
            id=row.id,
            key=row.key,
            index=row.position,
            status=Status(row.status),
            width=row.width,
            height=row.height,
            error=ErrorView(code=row.error_code, message=row.error_message) if row.error_code else None,
            lines=tuple(lines[row.id]),
        )
        for row in rows
    )


def _lines(connection: Connection, image_ids: Sequence[str]) -> dict[str, list[Line]]:
    lines: dict[str, list[Line]] = defaultdict(list)
    if not image_ids:
        return lines
    rows = connection.execute(_LINES, {"images": image_ids})
    for row in rows:
        lines[row.image_id].append(line_of(row))
    return lines


def line_of(row: Row[Any]) -> Line:
    """The line that a row of the table of lines holds."""
    return Line(
        index=row.position,
        text=row.text,
        confidence=row.confidence,
        bbox=BoundingBox(**dict(zip(("xmin", "ymin", "xmax", "ymax"), row.bbox, strict=True))),
        flags=tuple(Flag(flag) for flag in row.flags),
        words=tuple(Word(**word) for word in row.words),
        token_count=row.token_count,
        pieces=None if row.pieces is None else tuple(_token(piece) for piece in row.pieces),
    )


def _token(piece: Mapping[str, Any]) -> Token:
    return Token(
        text=piece["text"],
        logprob=piece["logprob"],
        alternatives=tuple(Alternative(**alternative) for alternative in piece["alternatives"]),
    )


def first_errors(connection: Connection, jobs: Sequence[Row[Any]]) -> dict[str, ErrorView]:
    """Why each failed job failed: the error of its first image."""
    failed = [row.id for row in jobs if Status(row.status) is Status.FAILED]
    if not failed:
        return {}
    first = connection.execute(
        select(ImageRow.job_id, ImageRow.error_code, ImageRow.error_message)
        .where(ImageRow.job_id.in_(failed), ImageRow.error_code.is_not(None))
        .ext(distinct_on(ImageRow.job_id))
        .order_by(ImageRow.job_id, ImageRow.position)
    )
    return {row.job_id: ErrorView(code=row.error_code, message=row.error_message) for row in first}
