"""Whose batch has its turn: one account after the other, and none that waits until its pause is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import structlog
from prometheus_client import Counter
from structlog.contextvars import bound_contextvars

from api.batch_submission import NO_ROOM
from api.batch_work import turn
from core import batches
from core.batches import Batch
from core.database import transaction

#: How often a clerk looks for work when there was none, and the first pause of a batch that waits.
ROUND_S = 0.5
#: A pause is twice as long as the one before it, up to this.
_LONGEST_PAUSE_S = 8.0
#: And up to this after a defect of ours, which only another version of the service may mend.
_LONGEST_PAUSE_AFTER_DEFECT_S = 300.0
#: So often a request may meet a defect of ours before it is failed for it.
_TRIES = 3

_TURNS = Counter("inkqueue_batch_turns", "Turns of batches, by how they ended.", ["outcome"])
# Told as 0 from the start: of a series that begins with its first event, Prometheus sees no increase.
for _outcome in ("done", "waits", "failed"):
    _TURNS.labels(_outcome)

_log = structlog.get_logger(__name__)


@dataclass
class _Pace:
    """How a batch fared of late."""

    #: Where it was then: a batch that is cancelled waits for nothing.
    status: batches.BatchStatus
    defects: int = 0
    pause_s: float = 0.0
    due_s: float = 0.0


class Clerk:
    """The rounds of one clerk. What it remembers may be lost: then a batch that waited tries again at once.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paces: dict[str, _Pace] = {}
        #: The last batch of each account that got further.
        self._last: dict[str, str] = {}

    def work_once(self, stopped: threading.Event) -> bool:
        """One round: a step of one batch of each account; whether any of them got further."""
        with transaction() as connection:
            open_ones = batches.open_batches(connection)
        self._forget_all_but(open_ones)
        further = False
        by_account = sorted(open_ones, key=lambda batch: (batch.account_id, batch.id))
        for account_id, own in groupby(by_account, key=lambda batch: batch.account_id):
            for batch in self._in_turn(account_id, list(own)):
                if stopped.is_set():
                    return further
                if self._gets_further(batch):
                    self._last[account_id] = batch.id
                    further = True
                    break
        return further

    def _in_turn(self, account_id: str, own: Sequence[Batch]) -> Iterator[Batch]:
        """An account's batches, beginning behind the one that got further last."""
        last = self._last.get(account_id, "")
        yield from (batch for batch in own if batch.id > last)
        yield from (batch for batch in own if batch.id <= last)

    def _gets_further(self, batch: Batch) -> bool:
        pace = self._paces.get(batch.id)
        if pace is None or pace.status is not batch.status:
            pace = self._paces[batch.id] = _Pace(status=batch.status)
        if self._clock() < pace.due_s:
            return False
        try:
            # The job is bound by each submission, and forgotten after the turn.
            with batch.origin.continued(), bound_contextvars(batch=batch.id, job=None, **batch.origin.log_fields()):
                further = turn(batch, last_try=pace.defects >= _TRIES - 1)
        except NO_ROOM as exc:
            _TURNS.labels("waits").inc()
            _log.info("a batch waits", batch=batch.id, why=exc.message)
        except Exception:
            # A batch that meets a defect must not hold up the others.
            _TURNS.labels("failed").inc()
            _log.exception("a batch failed its turn", batch=batch.id)
            pace.defects += 1
        else:
            _TURNS.labels("done").inc()
            del self._paces[batch.id]
            return further
        longest_s = _LONGEST_PAUSE_AFTER_DEFECT_S if pace.defects else _LONGEST_PAUSE_S
        pace.pause_s = min(2 * pace.pause_s, longest_s) if pace.pause_s else ROUND_S
        pace.due_s = self._clock() + pace.pause_s
        return False

    def _forget_all_but(self, open_ones: Sequence[Batch]) -> None:
        ids, accounts = {batch.id for batch in open_ones}, {batch.account_id for batch in open_ones}
        self._paces = {batch_id: pace for batch_id, pace in self._paces.items() if batch_id in ids}
        self._last = {account: last for account, last in self._last.items() if account in accounts}
