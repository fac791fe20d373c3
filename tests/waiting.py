"""Waiting for a condition, with a bound instead of a sleep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LOOK_EVERY_S = 0.02


def wait_until(
    condition: Callable[[], object], *, timeout_s: float = 20.0, look_every_s: float = _LOOK_EVERY_S
) -> None:
    """Return when the condition holds; fail when it does not within the time."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        pause.wait(look_every_s)
