"""A job as a table: a row for each line, in columns that a tab divides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from api.transcribed import TranscribedImage, written

#: What divides cells or rows, and what some take for it.
_DIVIDES = re.compile("[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_COLUMNS = ("image", "name", "line", "left", "top", "width", "height", "confidence", "flags", "text")


def table_of(images: Sequence[TranscribedImage]) -> str:
    """All lines of a job; places in pixels, nothing is quoted, and what is unknown is empty."""
    return "".join("\t".join(map(_cell, row)) + "\n" for row in (_COLUMNS, *_rows(images)))


def _rows(images: Sequence[TranscribedImage]) -> Iterator[Sequence[object]]:
    for image in images:
        for line in image.lines:
            box = line.bbox
            place = (box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin)
            read = (written(line.confidence) or "", ",".join(line.flags), line.text)
            yield image.number, image.name, line.index, *place, *read


def _cell(value: object) -> str:
    return _DIVIDES.sub(" ", str(value))
