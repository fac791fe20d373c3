"""An image and what was read in it, as the forms of archives want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.image_views import ImageView
from core.transcript import BoundingBox, Flag, Line, Word


@dataclass(frozen=True, kw_only=True)
class TranscribedImage:
    """One image of a job; without lines when it was not read, or nothing is written on it."""

    #: Its place in the job, from 0.
    number: int
    #: What its caller calls it, such as the file's name; its id where the caller has not said.
    name: str
    #: Of the upright image, in pixels.
    width: int
    height: int
    lines: Sequence[Line]
    model: str
    #: When its job ended, in UTC; None before.
    read_at: datetime | None

    @classmethod
    def of(cls, image: ImageView, *, model: str, read_at: datetime | None) -> TranscribedImage:
        """An image of a job that this model reads."""
        return cls(
            number=image.index,
            name=image.key or image.id,
            width=image.width,
            height=image.height,
            lines=[line for line in image.lines if Flag.BLANK not in line.flags],
            model=model,
            read_at=read_at,
        )

    @property
    def box(self) -> BoundingBox:
        """The whole image."""
        return BoundingBox(xmin=0, ymin=0, xmax=self.width, ymax=self.height)

    @property
    def text_box(self) -> BoundingBox:
        """The smallest that holds all lines, of which there must be one."""
        boxes = [line.bbox for line in self.lines]
        return BoundingBox(
            xmin=min(box.xmin for box in boxes),
            ymin=min(box.ymin for box in boxes),
            xmax=max(box.xmax for box in boxes),
            ymax=max(box.ymax for box in boxes),
        )


def written(confidence: float | None) -> str | None:
    """A confidence in [0, 1] as these forms write it; None where it is unknown."""
    return None if confidence is None else f"{confidence:.4f}"


def words_of(line: Line) -> Sequence[Word]:
    """The words of a line; where they are not told apart, all of it is one, and where nothing was read, none."""
    if line.words or not line.text.strip():
        return line.words
    return (Word(text=line.text, confidence=line.confidence),)
