"""The images that a model of a worker has claimed and that have not ended; any thread asks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from core.claims import Claim
from core.transcript import BoundingBox, Flag
from worker.recognizer import LinePixels


@dataclass(frozen=True, kw_only=True)
class ClaimedImage:
    """An image that was claimed and has not ended."""

    claim: Claim
    #: Nanoseconds of Unix time.
    claimed_ns: int
    #: None until its file was fetched.
    decoding: Future[LinePixels] | None = None
    #: Whether its line is the batcher's, which from then on answers for it.
    submitted: bool = False
    #: Whether it is marked as started, by its claim or later.
    started: bool = False
    flags: frozenset[Flag] = frozenset()

    @property
    def box(self) -> BoundingBox:
        """The whole image."""
        return BoundingBox(xmin=0, ymin=0, xmax=self.claim.width, ymax=self.claim.height)


class ClaimedImages:
    """Each is taken out once, by whoever ends it, gives it back or drops it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: dict[str, ClaimedImage] = {}
        self._images_of_job: Counter[str] = Counter()

    def add(self, claims: Iterable[Claim], *, claimed_ns: int) -> None:
        """Note what was claimed just now."""
        with self._lock:
            for claim in claims:
                self._images[claim.image_id] = ClaimedImage(claim=claim, claimed_ns=claimed_ns, started=claim.started)
                self._images_of_job[claim.job_id] += 1

    def all(self) -> list[ClaimedImage]:
        """Those that have not ended."""
        with self._lock:
            return list(self._images.values())

    def get(self, image_id: str) -> ClaimedImage | None:
        """One of them; None when it has ended or was dropped."""
        with self._lock:
            return self._images.get(image_id)

    def about_to_start(self, most: int) -> list[ClaimedImage]:
        """Up to so many that wait in the batcher, unmarked and beyond suspicion, those that were claimed first."""
        with self._lock:
            images = self._images.values()
            waiting = (image for image in images if image.submitted and not (image.started or image.claim.suspect))
            return list(islice(waiting, most))

    def change(self, image_id: str, **changes: Any) -> bool:
        """Note how far an image is; False when it was dropped meanwhile."""
        with self._lock:
            image = self._images.get(image_id)
            if image is None:
                return False
            self._images[image_id] = replace(image, **changes)
            return True

    def take(self, image_id: str) -> ClaimedImage | None:
        """Take one out; None when it is not here any more."""
        with self._lock:
            image = self._images.pop(image_id, None)
            if image is not None:
                self._images_of_job.subtract([image.claim.job_id])
                if not self._images_of_job[image.claim.job_id]:
                    del self._images_of_job[image.claim.job_id]
            return image

    def take_all(self, image_ids: Collection[str]) -> list[ClaimedImage]:
        """Take out those of these that are here."""
        return [image for image in map(self.take, image_ids) if image is not None]

    def any(self) -> bool:
        """Whether images are here."""
        with self._lock:
            return bool(self._images)

    def has_job(self, job_id: str) -> bool:
        """Whether images of this job are here."""
        with self._lock:
            return job_id in self._images_of_job
