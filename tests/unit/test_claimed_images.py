from __future__ import annotations

from core.claims import Claim
from core.origin import Origin
from core.reading_options import ReadingOptions
from core.states import Mode, Priority
from worker.claimed_images import ClaimedImages


def claim_of(image_id: str, *, suspect: bool = False, started: bool = False) -> Claim:
    return Claim(
        image_id=image_id,
        job_id="job_1",
        attempt=1,
        mode=Mode.LINE,
        priority=Priority.NORMAL,
        width=40,
        height=8,
        suspect=suspect,
        started=started,
        options=ReadingOptions(),
        origin=Origin(),
    )


def test_those_that_wait_in_the_batcher_are_about_to_start_in_the_order_of_their_claims() -> None:
    images = ClaimedImages()
    claims = [claim_of("a"), claim_of("b", suspect=True), claim_of("c", started=True), claim_of("d"), claim_of("e")]
    images.add([*claims, claim_of("not decoded yet")], claimed_ns=0)
    for claim in claims:
        images.change(claim.image_id, submitted=True)
    assert [image.claim.image_id for image in images.about_to_start(16)] == ["a", "d", "e"]
    assert [image.claim.image_id for image in images.about_to_start(2)] == ["a", "d"]
    images.change("a", started=True)
    images.take("d")
    assert [image.claim.image_id for image in images.about_to_start(16)] == ["e"]
