"""What is submitted: a job with its images, judged but for what its account may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.images import ImageHeader
from core.prices import Price, held_lines, price_list
from core.reading_options import ReadingOptions
from core.states import Mode, Priority
from core.webhooks import JobWebhook

#: Most images of one job (the API's contract).
MAX_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image of a submission, judged by its header."""

    data: bytes
    header: ImageHeader
    #: The caller's own name for it.
    key: str | None


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A validated submission."""

    model: str
    mode: Mode
    priority: Priority
    max_lines: int
    metadata: Mapping[str, str]
    images: Sequence[NewImage]
    webhook: JobWebhook | None = None
    #: Images that are not started so many seconds after the submission expire.
    deadline_s: float | None = None
    #: The job whose unread images these are.
    retry_of: str | None = None
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    #: The batch whose requests it reads.
    batch_id: str | None = None

    @property
    def stored_bytes(self) -> int:
        """Of all its image files."""
        return sum(len(image.data) for image in self.images)

    @property
    def price(self) -> Price:
        """Of each of its lines, as it is now."""
        return price_list().price(self.model, self.mode, self.priority, beams=self.reading.beams)

    @property
    def most_lines(self) -> int:
        """Lines that it may be charged for, and that are counted at its submission."""
        return held_lines(self.mode, images=len(self.images), max_lines=self.max_lines)
