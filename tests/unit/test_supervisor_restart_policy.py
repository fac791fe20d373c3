from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.restart_policy import Life, RestartPolicy


class FakeClock:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def pass_by(self, seconds: float) -> float:
        self.now += seconds
        return self.now


def waits_after(lengths: list[float], policy: RestartPolicy | None = None) -> list[float | None]:
    """The wait after each of these lives, each of which begins when the wait before it is over."""
    clock = FakeClock()
    lives: list[Life] = []
    waits: list[float | None] = []
    for length in lengths:
        lives.append(Life(began=clock.now, ended=clock.pass_by(length)))
        waits.append((policy or RestartPolicy()).wait_after(lives))
        clock.pass_by(waits[-1] or 0.0)
    return waits


@pytest.mark.parametrize(
    ("lengths", "waits"),
    [
        ([0], [1]),
        # Deaths at 0, 1, 3, 7 and 15 s: five within a minute.
        ([0, 0, 0, 0, 0], [1, 2, 4, 8, None]),
        # Deaths at 20, 41, 63, 87, 115 s: never five within a minute, and the waits grow to their longest.
        ([20, 20, 20, 20, 20, 20, 20], [1, 2, 4, 8, 16, 30, 30]),
        # A life of a minute starts the waits from the first again, also before a short one.
        ([0, 0, 60, 0, 0], [1, 2, 1, 1, 2]),
        # 59.9 s is not yet a minute.
        ([0, 59.9], [1, 2]),
        # Four deaths, a quiet hour, then four more: at no time five.
        ([0, 0, 0, 0, 3600, 0, 0, 0], [1, 2, 4, 8, 1, 1, 2, 4]),
    ],
)
def test_the_wait_after_each_life(lengths: list[float], waits: list[float | None]) -> None:
    assert waits_after(lengths) == waits


@given(st.lists(st.floats(min_value=0, max_value=200), min_size=1, max_size=30))
def test_no_wait_is_longer_than_the_longest(lengths: list[float]) -> None:
    assert all(wait is None or 1 <= wait <= 30 for wait in waits_after(lengths))


@given(st.lists(st.floats(min_value=60, max_value=10_000), min_size=1, max_size=30))
def test_a_child_that_lives_long_is_never_given_up(lengths: list[float]) -> None:
    assert waits_after(lengths) == [1.0] * len(lengths)
