"""How a claimed image ends: with what was read, with an error, or given back; once, by whoever takes it out first."""

from __future__ import annotations

from collections.abc import Sequence

from core.claims import Claim
from core.errors import InkqueueError
from core.outcomes import Outcome
from core.states import Priority
from core.tracing import record_span
from core.transcript import Flag, Line
from worker.claimed_images import ClaimedImage, ClaimedImages
from worker.finisher import Finisher
from worker.metrics import count_image
from worker.recognizer import Recognition

#: How long an end may wait for others that are written with it: a transaction for each line takes a good part of the
#: core time that a small model takes to read it. Whoever waits for a job that goes on waits anyway. While others are
#: read, one that ends gains more by the core time than it waits, but a person may wait for an interactive one.
_JOB_GOES_ON_S = 0.1
_OTHERS_GO_ON_S = 0.05


class ImageEnds:
    """Ends the images of one model; those that are not here any more are left as they are. From any threads.

    Args:
        model: The name that jobs ask for.
        images: What the model has claimed.
        finisher: Writes the ends.
    """

    def __init__(self, model: str, images: ClaimedImages, finisher: Finisher) -> None:
        self._model = model
        self._images = images
        self._finisher = finisher

    def read(self, image_id: str, recognition: Recognition) -> None:
        """End an image with its line."""
        if image := self._images.take(image_id):
            self._end(image, lines=[_line(recognition, image)])

    def blank(self, image_id: str) -> None:
        """End an image on which nothing is written."""
        if image := self._images.take(image_id):
            self._end(image, lines=[_blank_line(image)])

    def fail(self, image_id: str, error: InkqueueError) -> None:
        """End an image that cannot be read."""
        if image := self._images.take(image_id):
            self._end(image, error=error)

    def give_back(self, image_id: str) -> None:
        """Return an image to the queue unread."""
        if image := self._images.take(image_id):
            self._finisher.give_back(image.claim)

    def _end(self, image: ClaimedImage, *, lines: Sequence[Line] = (), error: InkqueueError | None = None) -> None:
        outcome = "read" if error is None else error.code
        count_image(self._model, outcome=outcome, lines=lines)
        self._record(image, outcome)
        claim = image.claim
        self._finisher.finish(
            Outcome(
                image_id=claim.image_id,
                job_id=claim.job_id,
                attempt=claim.attempt,
                lines=tuple(lines),
                error=error,
                origin=claim.origin,
            ),
            may_wait_s=self._may_wait_s(claim),
        )

    def _may_wait_s(self, claim: Claim) -> float:
        # The next suspect must not begin, and take the worker with it, before it is known that this one did not.
        if claim.suspect:
            return 0.0
        if self._images.has_job(claim.job_id):
            return _JOB_GOES_ON_S
        return _OTHERS_GO_ON_S if self._images.any() and claim.priority is not Priority.INTERACTIVE else 0.0

    def _record(self, image: ClaimedImage, outcome: str) -> None:
        claim = image.claim
        about = {
            "inkqueue.job": claim.job_id,
            "inkqueue.image": claim.image_id,
            "inkqueue.model": self._model,
            "inkqueue.outcome": outcome,
        }
        record_span("read image", parent=claim.origin.traceparent, began_ns=image.claimed_ns, attributes=about)


def _blank_line(image: ClaimedImage) -> Line:
    pieces = None if image.claim.options.top_logprobs is None else ()
    return Line(
        index=0, text="", confidence=None, bbox=image.box, flags=(Flag.BLANK,), words=(), token_count=0, pieces=pieces
    )


def _line(recognition: Recognition, image: ClaimedImage) -> Line:
    return Line(
        index=0,
        text=recognition.text,
        confidence=recognition.confidence,
        bbox=image.box,
        flags=tuple(sorted(recognition.flags | image.flags)),
        words=recognition.words,
        token_count=len(recognition.tokens),
        pieces=recognition.pieces,
    )
