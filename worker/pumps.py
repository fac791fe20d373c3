"""The threads that read slices for one model: how many there are, when they wait, and when they look again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from core import queue
from core.errors import Unavailable
from core.queue import SLICE_IMAGES
from core.states import Priority
from worker.batcher import Batcher

#: Threads that claim and decode for one model at once: while one waits for the storage, another goes on.
MAX_PUMPS = 2
#: Callers that a model has room for: one more than its pumps, so that a surplus one is told off.
MAX_CALLERS = MAX_PUMPS + 1
_ROOM_POLL_S = 1.0
#: How long whoever was woken relies on pumps that are at work.
_PATIENCE_S = 0.25
#: Lines that wait in the worker, in multiples of its rows, above which interactive images stay in the database too.
_URGENT_BACKLOG_ROWS = 8

_log = structlog.get_logger(__name__)


class Pumps:
    """Of one model; any thread calls.

    Args:
        model: The name that jobs ask for.
        read_slice: Claims up to `SLICE_IMAGES` images, none less urgent than what it is given, and hands on their
            lines; how many. Fewer mean that no others wait.
        batcher: Says when there is room for lines.
    """

    def __init__(self, model: str, read_slice: Callable[[Priority], int], batcher: Batcher) -> None:
        self._model = model
        self._read_slice = read_slice
        self._batcher = batcher
        self._threads = ThreadPoolExecutor(MAX_CALLERS, thread_name_prefix=f"pump-{model}")
        #: Guards the two below.
        self._changed = threading.Condition()
        self._pumps = 0
        self._rung = False
        self._stopping = threading.Event()

    @property
    def are_stopped(self) -> bool:
        """Whether they come to their end."""
        return self._stopping.is_set()

    def pump(self) -> bool:
        """Claim and submit images while any wait; what a ticket starts.

        Where that must wait, since the batcher wants no lines or enough pumps are at work, interactive images are
        claimed all the same: they overtake in the batcher what was claimed before. For the others one of those pumps
        looks once more before it ends.

        Returns:
            Whether it has looked for the others itself.

        Raises:
            Unavailable: Some images were given back: their files cannot be read or decoded now.
        """
        if self._must_wait() and self._wants_urgent() and self._read_slice(Priority.INTERACTIVE) == SLICE_IMAGES:
            # More may wait, and others may be sooner to read them.
            self._hand_on()
        return self._pump_as_one_of_few()

    def wake(self) -> None:
        """Start a pump in a thread of its own; what a notice does to a worker that stands by."""
        if not self._begin(self._woken):
            self._hand_on()

    def stop(self) -> None:
        """Let the pumps end; what they have claimed is still read. Returns at once, and may interrupt anything."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and wait for those that were woken."""
        self.stop()
        self._threads.shutdown()

    def _begin(self, work: Callable[[], object]) -> bool:
        try:
            self._threads.submit(self._in_thread, work)
        except RuntimeError:
            # They are closed, or there is no room for another thread.
            return False
        return True

    def _woken(self) -> None:
        # It stood by, but may have been filled up since.
        if not self._batcher.has_room():
            self._hand_on()
        if not (self.pump() or self._another_looks()) or self._stopping.is_set():
            self._hand_on()

    def _another_looks(self) -> bool:
        """Whether a pump that is at work looks again soon; those may all wait for pictures that are slow to come."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._rung, _PATIENCE_S)

    def _hand_on(self) -> None:
        """There is something that others may read."""
        queue.send_tickets(self._model, at_most=1)

    def _in_thread(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Unavailable as exc:
            _log.warning("a pump was cut short", model=self._model, error=exc.message)
        except Exception:
            # Outer edge of the thread; the sweeper's next ticket tries again.
            _log.exception("a pump failed", model=self._model)

    def _must_wait(self) -> bool:
        with self._changed:
            return self._pumps == MAX_PUMPS or not self._batcher.has_room()

    def _wants_urgent(self) -> bool:
        full = _URGENT_BACKLOG_ROWS * self._batcher.row_limit
        return self._batcher.backlog < full and not self._stopping.is_set()

    def _pump_as_one_of_few(self) -> bool:
        entered = False
        while self._enter():
            entered = True
            try:
                self._read_until_none_wait()
            finally:
                look_again = self._leave()
            if not look_again:
                break
        return entered

    def _enter(self) -> bool:
        with self._changed:
            enough = self._pumps == MAX_PUMPS
            self._rung |= enough
            self._pumps += not enough
            return not enough

    def _leave(self) -> bool:
        with self._changed:
            self._pumps -= 1
            return self._rung and not self._stopping.is_set()

    def _read_until_none_wait(self) -> None:
        while self._batcher_wants_lines():
            with self._changed:
                self._rung = False
                self._changed.notify_all()
            if self._read_slice(Priority.BULK) < SLICE_IMAGES:
                return
            self._call_company()

    def _call_company(self) -> None:
        """More may wait than one pump reads quickly."""
        with self._changed:
            alone = self._pumps < MAX_PUMPS
        if alone:
            self._begin(self._pump_as_one_of_few)

    def _batcher_wants_lines(self) -> bool:
        while not self._stopping.is_set():
            if self._batcher.wait_for_room(_ROOM_POLL_S):
                return True
        return False
