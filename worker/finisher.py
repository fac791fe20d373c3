"""Writes how images ended, in groups, and never gives up while Postgres is away."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence

import structlog

from core import outcomes
from core.claims import Claim, give_back
from core.errors import InkqueueError, Unavailable
from core.outcomes import Outcome

#: Images of one transaction. The group is whatever ended while the last transaction ran, or waits for company.
_GROUP_IMAGES = 64
_RETRY_S = 0.5

_log = structlog.get_logger(__name__)


class Finisher:
    """One thread that ends images in the order in which they were read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Outcome | Claim] = deque()
        self._writing: Sequence[Outcome | Claim] = ()
        #: When the first of them must be written at the latest, on the monotonic clock, seconds.
        self._due_at = math.inf
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="finisher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, outcome: Outcome, *, may_wait_s: float = 0.0) -> None:
        """Have an outcome written; returns at once.

        Args:
            outcome: How the reading of an image ended.
            may_wait_s: How long it may wait for others that are written with it.
        """
        self._put(outcome, wait_s=may_wait_s)

    def give_back(self, claim: Claim) -> None:
        """Have an image returned to the queue unread; returns at once."""
        self._put(claim, wait_s=0.0)

    def unwritten(self) -> set[str]:
        """Ids of the images of which something waits to be written, or is being written."""
        with self._changed:
            return {item.image_id for item in (*self._waiting, *self._writing)}

    def close(self, timeout_s: float) -> bool:
        """Write all that waits; False when that did not succeed in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _put(self, item: Outcome | Claim, *, wait_s: float) -> None:
        with self._changed:
            self._waiting.append(item)
            self._due_at = min(self._due_at, time.monotonic() + wait_s)
            self._changed.notify_all()

    def _run(self) -> None:
        while group := self._next_group():
            self._write_until_done(group)
            with self._changed:
                self._writing = ()

    def _next_group(self) -> list[Outcome | Claim]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            while not self._is_due():
                self._changed.wait(self._due_at - time.monotonic())
            group = [self._waiting.popleft() for _ in range(min(_GROUP_IMAGES, len(self._waiting)))]
            if not self._waiting:
                self._due_at = math.inf
            self._writing = group
            return group

    def _is_due(self) -> bool:
        return self._closed or len(self._waiting) >= _GROUP_IMAGES or time.monotonic() >= self._due_at

    def _write_until_done(self, group: Sequence[Outcome | Claim]) -> None:
        pause = threading.Event()
        while True:
            try:
                _write(group)
            except Unavailable as exc:
                _log.warning("results wait for the database", images=len(group), error=exc.message)
                pause.wait(_RETRY_S)
            except Exception:
                _log.exception("a group of results could not be written", images=len(group))
                self._write_apart(group)
                return
            else:
                return

    def _write_apart(self, group: Sequence[Outcome | Claim]) -> None:
        # One outcome that the database refuses must not take the others with it.
        if len(group) > 1:
            for item in group:
                self._write_until_done([item])
        elif isinstance(group[0], Outcome) and group[0].error is None:
            outcome = group[0]
            error = InkqueueError("the result could not be stored")
            self._write_until_done(
                [Outcome(image_id=outcome.image_id, job_id=outcome.job_id, attempt=outcome.attempt, error=error)]
            )


def _write(group: Sequence[Outcome | Claim]) -> None:
    ended = [item for item in group if isinstance(item, Outcome)]
    if ended:
        outcomes.finish(ended)
        _tell(ended)
    give_back([item for item in group if isinstance(item, Claim)])


def _tell(ended: Sequence[Outcome]) -> None:
    # A line for what one job has in a group, and not for each image: a full worker ends thousands in a second.
    by_job: dict[str, list[Outcome]] = {}
    for outcome in ended:
        by_job.setdefault(outcome.job_id, []).append(outcome)
    for job_id, of_one_job in by_job.items():
        failed = sum(outcome.error is not None for outcome in of_one_job)
        fields = of_one_job[0].origin.log_fields()
        _log.info("images ended", job=job_id, images=len(of_one_job), failed=failed, **fields)
