"""When a webhook that failed is tried again: the specification's example, over about three days."""

from __future__ import annotations

import random
from datetime import timedelta

#: From one attempt to the next; with the first attempt at once these make ten.
#: Standard Webhooks 1.0.0, section "Deliverability and reliability".
DELAYS_S = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
#: A delay is stretched by up to this share, so that receivers that fell together are not woken all at once.
JITTER = 0.2
#: A receiver may ask for patience, but not for ever.
_MOST_RETRY_AFTER_S = 24 * 3600
#: An endpoint none of whose attempts succeeded for so long is disabled.
_DEAD_AFTER = timedelta(days=5)
#: A delivery whose time came so long ago is given up: its receiver takes fewer than come, and would never catch up.
_OVERDUE_AFTER = timedelta(days=3)


def next_delay(failures: int, *, scale: float, retry_after_s: float = 0, draw: float | None = None) -> timedelta | None:
    """How long to wait after so many failed attempts; None when the schedule has ended.

    Args:
        failures: At least 1.
        scale: Factor on the schedule's delays; what the receiver asks for is not scaled.
        retry_after_s: What the receiver asked for, 0 if nothing.
        draw: In [0, 1), for tests; else at random.
    """
    if failures > len(DELAYS_S):
        return None
    jitter = 1 + JITTER * (random.random() if draw is None else draw)
    return timedelta(seconds=max(DELAYS_S[failures - 1] * scale * jitter, min(retry_after_s, _MOST_RETRY_AFTER_S)))


def overdue_after(scale: float) -> timedelta:
    """How long a delivery waits for its turn before it is given up."""
    return _OVERDUE_AFTER * scale


def dead_after(scale: float) -> timedelta:
    """How long an endpoint may fail before it is disabled."""
    return _DEAD_AFTER * scale
