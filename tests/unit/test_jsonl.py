"""Lines out of pieces, wherever these are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.jsonl import FileLine, lines_of


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(data=st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r\n", b" "])).map(b"".join), size=st.integers(1, 9))
def test_lines_are_those_of_the_whole_wherever_it_is_cut(data: bytes, size: int) -> None:
    found = list(lines_of(cut(data, size), most_bytes=1000))
    expected = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    assert [(line.number, line.data) for line in found] == expected


@given(data=st.lists(st.sampled_from([b"a", b"bcd", b"\n"])).map(b"".join), size=st.integers(1, 9))
def test_reading_goes_on_behind_any_line(data: bytes, size: int) -> None:
    whole = list(lines_of(cut(data, size), most_bytes=1000))
    for place, line in enumerate(whole):
        rest = lines_of(
            cut(data[line.ends_at :], size), most_bytes=1000, first_number=line.number + 1, first_byte=line.ends_at
        )
        assert list(rest) == whole[place + 1 :]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_line_that_is_too_long_is_told_and_not_held(size: int) -> None:
    data = b"ab\n" + b"c" * 20 + b"\nde\n" + b"f" * 20
    assert list(lines_of(cut(data, size), most_bytes=10)) == [
        FileLine(number=1, data=b"ab", ends_at=3),
        FileLine(number=2, data=None, ends_at=24),
        FileLine(number=3, data=b"de", ends_at=27),
        FileLine(number=4, data=None, ends_at=47),
    ]
