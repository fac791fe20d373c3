from __future__ import annotations

import threading

from core.notices import Waiters, going_on


def test_who_waits_for_the_end_is_not_woken_while_the_job_goes_on() -> None:
    waiters, end, change = Waiters(), threading.Event(), threading.Event()
    with (
        waiters.waiting_for("job_1", end, until_end=True),
        waiters.waiting_for("job_1", change, until_end=False),
    ):
        waiters.wake(going_on("job_1"))
        assert (end.is_set(), change.is_set()) == (False, True)
        change.clear()
        waiters.wake("job_1")
        assert (end.is_set(), change.is_set()) == (True, True)


def test_other_jobs_wake_nobody_and_the_end_of_the_process_everybody() -> None:
    waiters, end = Waiters(), threading.Event()
    with waiters.waiting_for("job_1", end, until_end=True):
        waiters.wake("job_2")
        waiters.wake(going_on("job_2"))
        assert not end.is_set()
        waiters.wake_all()
        assert end.is_set()


def test_who_has_left_is_not_woken() -> None:
    waiters, gone, there = Waiters(), threading.Event(), threading.Event()
    with waiters.waiting_for("job_1", there, until_end=True):
        with waiters.waiting_for("job_1", gone, until_end=True):
            pass
        waiters.wake("job_1")
    assert (gone.is_set(), there.is_set()) == (False, True)
