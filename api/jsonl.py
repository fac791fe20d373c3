"""Lines of a large file, out of the pieces in which it comes, without holding it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: All that follow each other, found at once: a file may hold millions of them, and is looked at again and again.
_EMPTY_LINES = re.compile(rb"\s*\n")


@dataclass(frozen=True, kw_only=True)
class FileLine:
    """A line that is not empty."""

    #: Its number in the file, from 1.
    number: int
    #: Without its end; None where it is longer than lines may be.
    data: bytes | None
    #: Where the next line begins: a byte of the file.
    ends_at: int


def lines_of(
    pieces: Iterable[bytes], *, most_bytes: int, first_number: int = 1, first_byte: int = 0
) -> Iterator[FileLine]:
    """The lines of a file that are not empty; of one that is too long, only that it is there.

    Args:
        pieces: The file's bytes, from the beginning of a line on.
        most_bytes: A longer line is not held.
        first_number: The number of the first line.
        first_byte: Where it begins.
    """
    held, dropped, number, at = bytearray(), False, first_number, first_byte
    for piece in pieces:
        begin = 0
        while begin < len(piece):
            if not held and not dropped and (empty := _EMPTY_LINES.match(piece, begin)) is not None:
                number += empty[0].count(b"\n")
                at, begin = at + len(empty[0]), empty.end()
                continue
            newline = piece.find(b"\n", begin)
            end = newline if newline >= 0 else len(piece)
            held += piece[begin:end]
            dropped = dropped or len(held) > most_bytes
            has_ended = newline >= 0
            at, begin = at + end - begin + has_ended, end + has_ended
            if has_ended:
                if dropped or held.strip():
                    yield FileLine(number=number, data=None if dropped else bytes(held), ends_at=at)
                held, dropped, number = bytearray(), False, number + 1
            elif dropped:
                held = bytearray()
    if dropped or held.strip():
        yield FileLine(number=number, data=None if dropped else bytes(held), ends_at=at)
