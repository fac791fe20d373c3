"""Faults under load, from their cause to the proof that nothing was lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from tests.faults.injections import FAULTS
from tests.faults.invariants import RECOVERY_S, assert_nothing_lost_or_doubled, is_recovered
from tests.faults.site import Site
from tests.waiting import wait_until

#: Looking takes two connections and a request.
_LOOK_EVERY_S = 0.1


def endured(site: Site, names: Sequence[str], *, after_jobs: int = 2) -> float:
    """Inject faults under load, and check everything; how long the service took to recover, seconds.

    Recovered is when all that was submitted until the last cause had come (and gone, if it did not stay) has been
    accepted and has ended, every process is there again, and the API says that nothing is missing.

    Args:
        site: Where.
        names: Which of `FAULTS`, one after the other, without waiting for a recovery between them.
        after_jobs: How many jobs of the load are accepted before: the moment.
    """
    before = len(site.load.submissions)
    with ExitStack() as shown, site.load.flowing():
        wait_until(lambda: len(site.load.submissions) > before + after_jobs, timeout_s=60)
        for name in names:
            shown.enter_context(FAULTS[name](site))
        began = time.monotonic()
        submissions = list(site.load.submissions)
        wait_until(lambda: is_recovered(site, submissions), timeout_s=RECOVERY_S, look_every_s=_LOOK_EVERY_S)
        recovery_s = time.monotonic() - began
    assert_nothing_lost_or_doubled(site)
    return recovery_s
