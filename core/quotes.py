"""What a job would cost and how long it would wait, without queuing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, func, select

from core.accounts import Caller
from core.claims import count_ahead
from core.funds import funds_of
from core.images import ImageHeader
from core.job_tables import ImageRow
from core.prices import Price, held_lines, price_list
from core.states import Mode, Priority, Status

#: A page of handwriting holds about so many lines for each width of it that it is high.
_LINES_A_WIDTH = 20
#: The speed of late is that of the last five minutes.
_LATELY = timedelta(minutes=5)
#: Behind so many images the wait is told as that of so many.
_COUNTED_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class Quote:
    """The price of a submission."""

    model: str
    images: int
    lines: int
    #: Whether `lines` is known rather than estimated.
    lines_exact: bool
    price: Price
    held_micro: int
    #: What the caller's key can spend: of its account's credits, and of its own cap.
    available_micro: int
    #: Seconds until its first image is read; None while nothing was read lately.
    queue_s: float | None

    @property
    def credits_micro(self) -> int:
        """What the lines cost together."""
        return self.lines * self.price.line_micro


def quote(
    connection: Connection,
    caller: Caller,
    headers: Sequence[ImageHeader],
    *,
    model: str,
    mode: Mode,
    priority: Priority,
    max_lines: int,
    beams: int,
) -> Quote:
    """Price a submission of images with these headers."""
    price = price_list().price(model, mode, priority, beams=beams)
    if mode is Mode.PAGE:
        lines = sum(estimated_lines(header, max_lines=max_lines) for header in headers)
    else:
        lines = len(headers)
    return Quote(
        model=model,
        images=len(headers),
        lines=lines,
        lines_exact=mode is Mode.LINE,
        price=price,
        held_micro=price.line_micro * held_lines(mode, images=len(headers), max_lines=max_lines),
        available_micro=funds_of(connection, caller).available_micro,
        queue_s=_queue_s(connection, model, priority),
    )


def estimated_lines(header: ImageHeader, *, max_lines: int) -> int:
    """Lines of a page, guessed from its shape."""
    return max(1, min(max_lines, round(_LINES_A_WIDTH * header.height / header.width)))


def _queue_s(connection: Connection, model: str, priority: Priority) -> float | None:
    ahead = count_ahead(connection, model, priority, most=_COUNTED_IMAGES)
    if not ahead:
        return 0.0
    read = select(func.count()).where(
        ImageRow.finished_at > func.now() - _LATELY, ImageRow.model == model, ImageRow.status == Status.SUCCEEDED
    )
    images = connection.execute(read.select_from(ImageRow)).scalar_one()
    return round(ahead * _LATELY.total_seconds() / images, 1) if images else None
