from __future__ import annotations

import pytest

from api.preferences import preferred_wait_s


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        ("", None),
        ("wait=5", 5),
        ("Wait = 5", 5),
        ('wait="5"', 5),
        ("respond-async, wait=10", 10),
        ("wait=10; strict", 10),
        ("wait", 60),
        ("wait=0", 0),
        ("wait=3600", 60),
        ("wait=soon", None),
        ("wait=-1", None),
        ("awaits=5", None),
    ],
)
def test_a_preferred_wait_is_understood_and_bounded(prefer: str, wait_s: int | None) -> None:
    assert preferred_wait_s(prefer) == wait_s
