"""What was read for a caller who wants the text rather than the job: one row of it for each image, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from core.accounts import Caller
from core.image_views import ImageView, image_views
from core.job_views import job_row
from core.states import Status
from core.transcript import Flag, Line, Token, rows_of


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A job as far as it is, seen as one text."""

    job_id: str
    status: Status
    model: str
    created_at: datetime
    finished_at: datetime | None
    metadata: dict[str, str]
    line_price_micro: int
    images: tuple[ImageView, ...]

    @property
    def text(self) -> str:
        """A row for each image; that of one without text is empty, so that the rows stay with their images."""
        return rows_of([image.text for image in self.images])

    @property
    def lines(self) -> list[Line]:
        """All lines, in order."""
        return [line for image in self.images for line in image.lines]

    @property
    def lines_charged(self) -> int:
        """Lines that are paid for: blank ones are free."""
        return sum(Flag.BLANK not in line.flags for line in self.lines)

    @property
    def charged_micro(self) -> int:
        """What they cost."""
        return self.lines_charged * self.line_price_micro

    @property
    def token_count(self) -> int:
        """Tokens that the model wrote."""
        return sum(line.token_count or 0 for line in self.lines)

    @property
    def truncated(self) -> bool:
        """Whether the token limit ended a line."""
        return any(Flag.TRUNCATED in line.flags for line in self.lines)

    @property
    def has_tokens(self) -> bool:
        """Whether its caller asked for the tokens."""
        return any(line.pieces is not None for line in self.lines)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """What the text is made of, for callers who asked; each end of a row is certain."""
        rows = [tuple(token for line in image.lines for token in line.pieces or ()) for image in self.images]
        end_of_row = Token(text="\n", logprob=0.0)
        return tuple(token for place, row in enumerate(rows) for token in ((end_of_row, *row) if place else row))


def part_of(whole: Reading, *, first_image: int, images: int) -> Reading:
    """The reading of some images of a job, for whoever sent only these: whatever became of the others."""
    part = whole.images[first_image : first_image + images]
    is_read = all(image.status is Status.SUCCEEDED for image in part)
    return replace(whole, images=part, status=Status.SUCCEEDED if is_read else whole.status)


def reading(connection: Connection, caller: Caller, job_id: str) -> Reading:
    """A job's reading, as far as it is.

    Raises:
        NotFound: The account has no such job.
        Gone: It was deleted.
    """
    row = job_row(connection, caller, job_id)
    return Reading(
        job_id=row.id,
        status=Status(row.status),
        model=row.model,
        created_at=row.created_at,
        finished_at=row.finished_at,
        metadata=row.caller_metadata,
        line_price_micro=row.line_price_micro,
        images=image_views(connection, job_id),
    )
