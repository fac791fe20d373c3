"""From a ticket to text for one model: claim the most urgent images, decode them, read their lines, end them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from concurrent.futures import CancelledError, Future
from typing import Protocol

import structlog

from core import claims, job_files, standby
from core.claims import Claim
from core.errors import InkqueueError, NotFound, Unavailable
from core.live_text import LiveText
from core.queue import SLICE_IMAGES
from core.settings import settings
from core.states import Priority
from core.transcript import Flag
from worker.batcher import BatcherStopped, BatchObserver, QueuedLine
from worker.claimed_images import ClaimedImages
from worker.finisher import Finisher
from worker.image_ends import ImageEnds
from worker.line_checks import is_blank, looks_like_page
from worker.live_texts import LiveTexts
from worker.long_lines import LongLines
from worker.pumps import Pumps
from worker.recognizer import LinePixels, LineRequest, Recognition, Recognizer, RecognizerOutOfMemory

_log = structlog.get_logger(__name__)


class Decoder(Protocol):
    """Turns image files into pixels, apart from this process."""

    def decode(self, data: bytes, *, max_pixels: int, urgency: int) -> Future[LinePixels]:
        """The upright pixels of a file, or `InvalidImage`."""


class Transcription:
    """One model of a worker and the images that it has claimed.

    Args:
        model: The name that jobs ask for.
        worker_id: Whose lease the claims are under.
        recognizer: The model.
        decoder: Shared by all models of the worker.
        finisher: Shared by all models of the worker.
        live_texts: Shared by all models of the worker.
        observer: Is told the batcher's figures.
    """

    def __init__(
        self,
        model: str,
        *,
        worker_id: str,
        recognizer: Recognizer,
        decoder: Decoder,
        finisher: Finisher,
        live_texts: LiveTexts,
        observer: BatchObserver,
    ) -> None:
        self.model = model
        self.worker_id = worker_id
        self._decoder = decoder
        self._live_texts = live_texts
        self._lines = LongLines(
            recognizer,
            on_start=self._on_start,
            on_settled=self._on_settled,
            on_read=self._on_read,
            on_failed=self._on_failed,
            observer=observer,
        )
        self.batcher = self._lines.batcher
        self._images = ClaimedImages()
        self._ends = ImageEnds(model, self._images, finisher)
        #: Any thread has them claim.
        self.pumps = Pumps(model, self._read_slice, self.batcher)

    def stand_by(self) -> None:
        """See to it that this worker is woken when something waits, unless others are to read it."""
        # One without room leaves what comes to those that have some; what is claimed takes room before it is decoded.
        coming = sum(not image.submitted for image in self._images.all())
        if self.batcher.has_room(beside=coming) and not self.pumps.are_stopped:
            standby.stand_by(self.worker_id, self.model)

    def stop(self, grace_s: float) -> None:
        """Finish what is in rows within the grace, and give everything else back to the queue."""
        self.pumps.close()
        unread = self._lines.stop(grace_s)
        for line in unread:
            self._ends.give_back(line.key)

    def held(self) -> list[Claim]:
        """The images that are claimed and have not ended."""
        return [image.claim for image in self._images.all()]

    def drop(self, image_ids: Collection[str]) -> None:
        """Forget images that were canceled or taken away: their rows are free before the next step."""
        dropped = self._images.take_all(image_ids)
        for image in dropped:
            if image.decoding is not None:
                image.decoding.cancel()
        self._lines.cancel([image.claim.image_id for image in dropped])

    def _read_slice(self, least: Priority) -> int:
        """Claim images and hand on their lines; how many. Fewer than a slice mean that no others wait.

        Raises:
            Unavailable: Some were given back: their files cannot be read or decoded now.
        """
        slice_ = claims.claim(self.worker_id, self.model, most=SLICE_IMAGES, least=least, free_rows=self._free_rows())
        self._images.add(slice_, claimed_ns=time.time_ns())
        try:
            begun = list(zip(slice_, job_files.for_each(slice_, self._decode), strict=True))
            if len(slice_) < SLICE_IMAGES and least is Priority.BULK:
                # Now, and not when they are decoded: what comes meanwhile needs no ticket.
                self.stand_by()
            submitted = [self._submit(claim, future) for claim, future in begun if isinstance(future, Future)]
        except BaseException:
            # Whatever it was, what it left behind must not stay claimed by a worker that does nothing for it.
            self._give_back_unsubmitted(slice_)
            raise
        # Both end this pump, which would claim the same images again without a pause: the sweeper's next ticket tries
        # again, when the storage may be back, or there may be memory.
        if unread := [(claim, outage) for claim, outage in begun if isinstance(outage, Unavailable)]:
            self._give_back_unread([claim for claim, _ in unread], unread[0][1])
            raise unread[0][1]
        if not all(submitted):
            raise Unavailable("no process to decode images can be started, or there is no memory for them")
        return len(slice_)

    def _free_rows(self) -> int:
        held = self.held()
        # Nobody is begun beside a suspect.
        if any(claim.suspect for claim in held):
            return 0
        return self.batcher.row_limit - sum(claim.options.beams for claim in held)

    def _decode(self, claim: Claim) -> Future[LinePixels] | Unavailable | None:
        """Begin to decode an image; why its file cannot be read now, or None when it has failed."""
        try:
            data = job_files.get_image(claim.job_id, claim.image_id)
        except Unavailable as exc:
            return exc
        except NotFound as exc:
            self._ends.fail(claim.image_id, exc)
            return None
        future = self._decoder.decode(data, max_pixels=settings().max_image_pixels, urgency=claim.priority)
        self._images.change(claim.image_id, decoding=future)
        return future

    def _submit(self, claim: Claim, future: Future[LinePixels]) -> bool:
        """Hand a decoded image on; False when it was given back since no process decodes, or there is no memory."""
        try:
            self._queue_line(claim, future.result())
        except InkqueueError as exc:
            self._ends.fail(claim.image_id, exc)
        except (CancelledError, BatcherStopped):
            self._ends.give_back(claim.image_id)
        except (OSError, MemoryError):
            self._ends.give_back(claim.image_id)
            return False
        return True

    def _queue_line(self, claim: Claim, pixels: LinePixels) -> None:
        if is_blank(pixels):
            self._ends.blank(claim.image_id)
            return
        flags = frozenset({Flag.LOOKS_LIKE_PAGE}) if looks_like_page(pixels) else frozenset()
        if not self._images.change(claim.image_id, flags=flags, submitted=True):
            return
        self._lines.submit(
            QueuedLine(
                key=claim.image_id,
                request=LineRequest(
                    pixels=pixels,
                    beams=claim.options.beams,
                    max_new_tokens=claim.options.max_new_tokens,
                    top_logprobs=claim.options.top_logprobs,
                ),
                priority=claim.priority,
                job_id=claim.job_id,
                alone=claim.suspect,
                watched=claim.options.watched,
            )
        )

    def _give_back_unread(self, unread: Sequence[Claim], error: Unavailable) -> None:
        _log.warning(
            "images are given back: their files cannot be read now",
            model=self.model,
            images=len(unread),
            jobs={claim.job_id: claim.origin.log_fields() for claim in unread},
            error=error.message,
        )
        for claim in unread:
            self._ends.give_back(claim.image_id)

    def _give_back_unsubmitted(self, slice_: Sequence[Claim]) -> None:
        for claim in slice_:
            image = self._images.get(claim.image_id)
            if image is not None and not image.submitted:
                self._ends.give_back(claim.image_id)

    def _on_start(self, lines: Sequence[QueuedLine]) -> None:
        starting = {
            line.key: image.claim
            for line in lines
            if (image := self._images.get(line.key)) is not None and not image.started
        }
        if not starting:
            return
        # The device waits for this trip. Others that will start soon are marked with it: should the worker be lost just
        # then, they are read alone once, for nothing. A suspect is alone so that nobody is suspected with it.
        if not any(claim.suspect for claim in starting.values()):
            starting |= {image.claim.image_id: image.claim for image in self._images.about_to_start(SLICE_IMAGES)}
        try:
            claims.mark_started(list(starting.values()))
        except Unavailable as exc:
            # The mark only serves to find out which image kills workers: better to read on without it.
            _log.warning("images could not be marked as started", error=exc.message)
        else:
            for image_id in starting:
                self._images.change(image_id, started=True)

    def _on_settled(self, line: QueuedLine, text: str) -> None:
        image = self._images.get(line.key)
        if image is not None and text:
            self._live_texts.show(LiveText(image_id=line.key, attempt=image.claim.attempt, text=text))

    def _on_read(self, line: QueuedLine, recognition: Recognition) -> None:
        self._ends.read(line.key, recognition)

    def _on_failed(self, line: QueuedLine, error: Exception) -> None:
        if isinstance(error, RecognizerOutOfMemory):
            self._ends.fail(line.key, InkqueueError("the line does not fit into the device's memory"))
        else:
            _log.error("a line could not be read", image=line.key, job=line.job_id, error=repr(error))
            self._ends.fail(line.key, InkqueueError("the line could not be read"))
