"""Ids that people can tell apart: a prefix and 26 characters that sort by time of making."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CHARACTERS = 26
_RANDOM_BITS = 80


def new_id(prefix: str) -> str:
    """A new id such as `job_01jd4…`: 48 bits of milliseconds, then 80 random bits.

    Source: ULID, https://github.com/ulid/spec, in lower case.
    """
    number = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return f"{prefix}_" + "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(_CHARACTERS)))


def made_at(identifier: str) -> datetime:
    """When an id was made, to the millisecond, by the clock of the machine that made it.

    Raises:
        ValueError: This is not one of our ids.
    """
    _, _, characters = identifier.partition("_")
    if len(characters) != _CHARACTERS:
        raise ValueError(f"not an id: {identifier}")
    number = 0
    for character in characters:
        number = number << 5 | _ALPHABET.index(character)
    return datetime.fromtimestamp((number >> _RANDOM_BITS) / 1000, UTC)
