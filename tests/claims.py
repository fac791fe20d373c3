from __future__ import annotations

from core.claims import Claim
from core.origin import Origin
from core.reading_options import ReadingOptions
from core.states import Mode, Priority


def claim_of(
    image_id: str,
    *,
    job_id: str = "job_1",
    priority: Priority = Priority.NORMAL,
    suspect: bool = False,
    started: bool = False,
) -> Claim:
    """An image that a worker has claimed."""
    return Claim(
        image_id=image_id,
        job_id=job_id,
        attempt=1,
        mode=Mode.LINE,
        priority=priority,
        width=40,
        height=8,
        suspect=suspect,
        started=started,
        options=ReadingOptions(),
        origin=Origin(),
    )
