from __future__ import annotations

from datetime import timedelta

import pytest

from core.webhook_schedule import DELAYS_S, next_delay


def test_the_schedule_makes_ten_attempts_over_about_three_days() -> None:
    delays = [next_delay(failures, scale=1, draw=0) for failures in range(1, 11)]
    assert delays[-1] is None
    total = sum((delay for delay in delays if delay), timedelta())
    assert total == timedelta(seconds=5 + 300 + 1800, hours=2 + 5 + 10 + 14 + 20 + 24)
    assert len(DELAYS_S) + 1 == 10


@pytest.mark.parametrize(
    ("failures", "scale", "draw", "retry_after_s", "seconds"),
    [
        (1, 1, 0, 0, 5),
        (1, 1, 0.5, 0, 5.5),  # 5 x (1 + 0.2 x 0.5)
        (2, 0.01, 0, 0, 3),  # 300 x 0.01
        (1, 1, 0, 60, 60),  # the receiver asks for more
        (2, 1, 0, 60, 300),  # the schedule's delay is longer
        (1, 1, 0, 10**9, 86_400),  # patience has an end
    ],
)
def test_a_delay_is_the_schedules_or_the_receivers(
    failures: int, scale: float, draw: float, retry_after_s: float, seconds: float
) -> None:
    delay = next_delay(failures, scale=scale, retry_after_s=retry_after_s, draw=draw)
    assert delay == timedelta(seconds=seconds)
