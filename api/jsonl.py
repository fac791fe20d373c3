"""Lines of a large file, out of the pieces in which it comes, without holding it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


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
        *ended, rest = piece.split(b"\n")
        for part in ended:
            held += part
            at += len(part) + 1
            if dropped or held.strip():
                too_long = dropped or len(held) > most_bytes
                yield FileLine(number=number, data=None if too_long else bytes(held), ends_at=at)
            held, dropped, number = bytearray(), False, number + 1
        held += rest
        at += len(rest)
        if len(held) > most_bytes:
            held, dropped = bytearray(), True
    if dropped or held.strip():
        yield FileLine(number=number, data=None if dropped else bytes(held), ends_at=at)
