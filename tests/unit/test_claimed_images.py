from __future__ import annotations

from tests.claims import claim_of
from worker.claimed_images import ClaimedImages


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
