"""The worker's heartbeat: renews the lease, drops what was canceled, gives strays back, ends a process that hangs.

It also shows what waits and what is in rows: figures of a moment, so that a look every few seconds is enough.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

import structlog

from core import claims, leases
from core.errors import Unavailable
from core.settings import settings
from worker.finisher import Finisher
from worker.metrics import show_batcher
from worker.tickets import Tickets
from worker.transcription import Transcription

#: Heartbeats within one lease: the lease survives some that fail.
_BEATS_PER_LEASE = 5
#: Exit status of a process that ends itself so that it is started anew (sysexits.h, EX_TEMPFAIL).
_EX_TEMPFAIL = 75

_log = structlog.get_logger(__name__)


class Heartbeat:
    """A daemon thread that keeps one worker's lease; `os._exit` is its last word, since what hangs cannot be joined."""

    def __init__(
        self, worker_id: str, transcriptions: Sequence[Transcription], finisher: Finisher, tickets: Tickets
    ) -> None:
        self._worker_id = worker_id
        self._transcriptions = transcriptions
        self._finisher = finisher
        self._tickets = tickets
        #: Images and attempts that were nobody's at the last beat.
        self._strays: set[tuple[str, int]] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; the lease then runs out by itself unless it is resigned."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(settings().lease_s / _BEATS_PER_LEASE):
            try:
                self.beat()
            except Unavailable as exc:
                _log.warning("the lease was not renewed", error=exc.message)
            except Exception:
                # Outer edge of the thread: a worker without a heartbeat would lose its images one lease later.
                _log.exception("a heartbeat failed")

    def beat(self) -> None:
        """One heartbeat; it ends the process where that helps.

        Raises:
            Unavailable: Postgres cannot be reached.
        """
        for transcription in self._transcriptions:
            show_batcher(transcription.model, transcription.batcher)
            if self._hangs(transcription):
                _end_process("the model has made no step for too long", model=transcription.model)
        for model in self._tickets.unheard():
            _end_process("tickets wait in Redis, but none arrives here", model=model)
        if not leases.renew(self._worker_id):
            _end_process("the lease has run out and the images were given away")
        # Looked at before Postgres, so that what is claimed meanwhile is not dropped.
        held = [(transcription, transcription.held()) for transcription in self._transcriptions]
        taken = claims.taken_by(self._worker_id)
        standing = {(image.image_id, image.attempt) for image in taken}
        for transcription, images in held:
            transcription.drop([image.image_id for image in images if (image.image_id, image.attempt) not in standing])
        self._give_back_strays(taken)
        # After all that must not wait for a Redis that does not answer.
        for transcription in self._transcriptions:
            transcription.stand_by()

    def _give_back_strays(self, taken: Sequence[claims.Taken]) -> None:
        """Return what Postgres says is read here, and nobody here knows of since the beat before.

        A claim whose connection breaks at its commit has taken images, and told nobody.
        """
        # Looked at after Postgres, so that what ends meanwhile is no stray; until then an image is in one of the two.
        known = {claim.image_id for transcription in self._transcriptions for claim in transcription.held()}
        known |= self._finisher.unwritten()
        strays = {(image.image_id, image.attempt): image for image in taken if image.image_id not in known}
        claims.give_back([image for key, image in strays.items() if key in self._strays])
        self._strays = set(strays)

    def _hangs(self, transcription: Transcription) -> bool:
        batcher = transcription.batcher
        stands_still_s = time.monotonic() - batcher.last_progress_at
        return bool(batcher.in_rows or batcher.backlog) and stands_still_s > settings().stall_s


def _end_process(why: str, **facts: str) -> None:
    _log.critical("the worker ends itself", why=why, **facts)
    os._exit(_EX_TEMPFAIL)
