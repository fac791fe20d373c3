from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st

from api.rate_counters import WINDOW_S, Count, Limit

WINDOW_MS = 1000 * WINDOW_S


def count(current: int = 0, previous: int = 0, left_ms: int = WINDOW_MS, most: int = 10) -> Count:
    return Count(
        limit=Limit(owner="account", name="requests:acc_1", most=most),
        current=current,
        previous=previous,
        left_ms=left_ms,
    )


def later(now: Count, ms: int) -> Count:
    """Where a counter stands when so much time has passed and nothing was counted."""
    if ms < now.left_ms:
        return count(now.current, now.previous, now.left_ms - ms, now.limit.most)
    if ms < now.left_ms + WINDOW_MS:
        return count(0, now.current, now.left_ms + WINDOW_MS - ms, now.limit.most)
    return count(most=now.limit.most)


def test_the_window_before_counts_by_its_share_of_the_last_minute() -> None:
    assert [count(2, 8, left_ms).remaining for left_ms in (60_000, 30_000, 7_500, 7_499)] == [0, 4, 7, 8]
    assert count(8, 8).remaining == 0


def test_what_passes_now_need_not_wait() -> None:
    assert count(9).wait_ms(1) == 0


def test_what_never_passes_is_told_a_minute() -> None:
    assert count().wait_ms(11) == WINDOW_MS


@example(current=36, previous=0, left_ms=59_999, amount=68)
@example(current=0, previous=2, left_ms=31_000, amount=100)
@given(
    current=st.integers(0, 100),
    previous=st.integers(0, 100),
    left_ms=st.integers(1, WINDOW_MS),
    amount=st.integers(1, 100),
)
def test_what_waits_as_long_as_it_is_told_passes_and_no_sooner(
    current: int, previous: int, left_ms: int, amount: int
) -> None:
    now = count(current, previous, left_ms, most=100)
    wait_ms = now.wait_ms(amount)
    assume(wait_ms)
    assert later(now, wait_ms).remaining >= amount
    assert later(now, wait_ms - 1).remaining < amount
