"""What must be true after every fault: each job ended once, and each image was read once and paid for once."""

from __future__ import annotations

import json
from collections import defaultdict

from sqlalchemy import create_engine

from core.audit import audit
from tests.faults.load import Submission
from tests.faults.site import LINE, Site
from tests.real_lines import transcriptions
from tests.waiting import wait_until

#: How long a service may take to recover, seconds.
RECOVERY_S = 60.0

_UNENDED = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')"
_UNTOLD = "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'"


def is_recovered(site: Site, submissions: list[Submission]) -> bool:
    """Whether these submissions are accepted, their jobs have ended, and nothing of the service is missing."""
    if not all(submission.accepted.is_set() for submission in submissions):
        return False
    ids = [submission.job_id for submission in submissions]
    return site.count(f"{_UNENDED} AND id = ANY(%s)", ids) == 0 and site.is_whole()


def assert_nothing_lost_or_doubled(site: Site) -> None:
    """Look at everything that was ever submitted here."""
    wait_until(lambda: site.count(_UNENDED) == 0, timeout_s=RECOVERY_S, look_every_s=0.1)
    wait_until(lambda: site.count(_UNTOLD) == 0, timeout_s=RECOVERY_S, look_every_s=0.1)
    assert site.load.unexpected == []
    _assert_each_submission_is_one_job(site)
    _assert_each_image_has_one_result(site)
    _assert_each_image_is_settled_once(site)
    _assert_each_job_ended_once(site)
    _assert_each_end_was_told_under_one_id(site)
    _assert_audit_is_clean(site)


def _assert_each_submission_is_one_job(site: Site) -> None:
    ids = [submission.job_id for submission in site.load.submissions]
    assert len(set(ids)) == len(ids)
    # The others are the sample line of `inkqueue up` and the requests of batches.
    taken = site.service.rows("SELECT id FROM jobs WHERE webhook_url IS NOT NULL")
    assert {job_id for (job_id,) in taken} == set(ids)


def _assert_each_image_has_one_result(site: Site) -> None:
    results = site.service.rows(
        "SELECT images.status, count(lines.image_id), max(lines.text), count(DISTINCT images.id) "
        "FROM images LEFT JOIN lines ON lines.image_id = images.id GROUP BY images.id, images.status"
    )
    succeeded = {(lines, text) for status, lines, text, _ in results if status == "succeeded"}
    assert succeeded == {(1, transcriptions()[LINE.name])}
    assert {(status, lines) for status, lines, _, _ in results} <= {("succeeded", 1), ("failed", 0)}


def _assert_each_image_is_settled_once(site: Site) -> None:
    settled = site.service.rows(
        "SELECT images.status, coalesce(array_agg(ledger.kind::text) FILTER (WHERE ledger.kind IS NOT NULL), '{}') "
        "FROM images LEFT JOIN ledger ON ledger.image_id = images.id GROUP BY images.id, images.status"
    )
    wrong = [pair for pair in settled if pair not in (("succeeded", ["capture"]), ("failed", ["release"]))]
    assert wrong == []
    assert site.service.rows("SELECT sum(held_micro) FROM accounts") == [(0,)]


def _assert_each_job_ended_once(site: Site) -> None:
    ends = site.service.rows(
        "SELECT jobs.id, count(*) FILTER (WHERE kind = 'done'), max(jobs.version) - max(job_events.version) "
        "FROM jobs LEFT JOIN job_events ON job_id = jobs.id GROUP BY jobs.id"
    )
    assert [end for end in ends if end[1:] != (1, 0)] == []


def _assert_each_end_was_told_under_one_id(site: Site) -> None:
    ids: dict[str, set[str]] = defaultdict(set)
    for request in list(site.receiver.requests):
        ids[json.loads(request.body)["data"]["id"]].add(request.webhook_id)
    assert {job_id: len(told) for job_id, told in ids.items()} == {
        submission.job_id: 1 for submission in site.load.submissions
    }


def _assert_audit_is_clean(site: Site) -> None:
    engine = create_engine(site.service.environment["DATABASE_URL"])
    with engine.connect() as connection:
        assert audit(connection) == []
    engine.dispose()
