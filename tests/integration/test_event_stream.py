from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.event_stream import open_stream
from core import accounts, jobs, outcomes
from core.accounts import Caller
from core.claims import claim
from core.database import transaction
from core.errors import InvalidImage
from core.outcomes import Outcome
from core.settings import settings
from tests.domain import MODEL, new_caller, read, rows, submit_lines


def told(stream: Iterator[str] | None) -> list[tuple[int, str, dict[str, Any]]]:
    """The events of a stream until its end: id, kind, data."""
    assert stream is not None
    events = []
    for block in "".join(stream).split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "event" in fields:
            events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


def read_in_groups_of(images: int) -> None:
    while taken := claim("wrk_1", MODEL, most=images):
        outcomes.finish([read(found, f"text {found.image_id}") for found in taken])


def test_a_stream_tells_every_line_and_ends_with_the_job() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 3)
    read_in_groups_of(2)
    events = told(open_stream(caller, job_id, after=0))
    assert [kind for _, kind, _ in events] == ["status", "status", "line", "line", "line", "done"]
    assert [data["status"] for _, kind, data in events if kind != "line"] == ["queued", "running", "succeeded"]
    assert [data["image_index"] for _, kind, data in events if kind == "line"] == [0, 1, 2]


def test_ids_of_events_are_the_versions_of_the_job_without_a_gap() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 5)
    read_in_groups_of(2)
    ids = [version for version, _, _ in told(open_stream(caller, job_id, after=0))]
    assert ids == list(range(1, 9))  # queued, running, 5 lines, done
    assert rows("SELECT version FROM jobs") == [(8,)]


@pytest.mark.parametrize("seen", range(8))
def test_a_stream_that_is_resumed_tells_exactly_what_is_missing(seen: int) -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 5)
    read_in_groups_of(3)
    whole = told(open_stream(caller, job_id, after=0))
    assert told(open_stream(caller, job_id, after=seen)) == whole[seen:]


def test_a_stream_whose_last_event_was_seen_has_nothing_to_tell() -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    read_in_groups_of(1)
    assert open_stream(caller, job_id, after=4) is None


def test_an_image_that_failed_is_told_with_its_error() -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    (found,) = claim("wrk_1", MODEL, most=1)
    outcomes.finish(
        [Outcome(image_id=found.image_id, job_id=job_id, attempt=found.attempt, error=InvalidImage("truncated"))]
    )
    (_, kind, data), (_, _, done) = told(open_stream(caller, job_id, after=2))
    assert (kind, data["error"]) == ("image", {"code": "invalid_image", "message": "truncated"})
    assert done["status"] == "failed"


def test_a_canceled_job_ends_its_stream() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2)
    stream = open_stream(caller, job_id, after=0)
    canceling = threading.Timer(0.1, jobs.cancel, (caller, job_id))
    canceling.start()
    assert [data["status"] for _, _, data in told(stream)] == ["queued", "canceled"]
    canceling.join()


def test_a_deleted_job_ends_its_stream_and_leaves_no_event() -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    stream = open_stream(caller, job_id, after=1)
    assert stream is not None
    assert next(stream).startswith("retry:")
    jobs.delete_job(caller, job_id)
    assert list(stream) == ["event: deleted\ndata: {}\n\n"]
    assert rows("SELECT count(*) FROM job_events") == [(0,)]


def test_many_readers_of_a_running_job_all_see_the_same_order() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 40)
    seen: list[list[int]] = []

    def follow() -> None:
        seen.append([version for version, _, _ in told(open_stream(caller, job_id, after=0))])

    readers = [threading.Thread(target=follow) for _ in range(5)]
    writers = [threading.Thread(target=read_in_groups_of, args=(3,)) for _ in range(3)]
    for thread in readers + writers:
        thread.start()
    for thread in readers + writers:
        thread.join()
    assert seen == [list(range(1, 44))] * 5
    assert all(later == earlier + 1 for earlier, later in pairwise(seen[0]))


def test_a_stream_above_the_accounts_cap_tells_what_there_is_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.waiting.settings", lambda: settings().model_copy(update={"max_waiting_per_account": 0}))
    caller = new_caller()
    assert [kind for _, kind, _ in told(open_stream(caller, submit_lines(caller), after=0))] == ["status"]


def headers_of(caller: Caller) -> dict[str, str]:
    with transaction() as connection:
        key = accounts.create_key(connection, account_id=caller.account_id, name="test")
    return {"Authorization": f"Bearer {key}"}


def test_events_are_streamed_over_http_and_resumed_by_last_event_id(application: FlaskClient) -> None:
    caller = new_caller()
    job_id = submit_lines(caller, 2)
    read_in_groups_of(2)
    headers = headers_of(caller)
    answer = application.get(f"/v1/jobs/{job_id}/events", headers=headers | {"Last-Event-ID": "3"})
    assert answer.mimetype == "text/event-stream"
    assert [version for version, _, _ in told(iter([answer.text]))] == [4, 5]
    ended = application.get(f"/v1/jobs/{job_id}/events", headers=headers | {"Last-Event-ID": "5"})
    assert ended.status_code == 204
    assert application.get(f"/v1/jobs/{job_id}/events?after=4", headers=headers).text.count("event:") == 1


def test_a_last_event_id_that_is_no_version_is_refused(application: FlaskClient) -> None:
    caller = new_caller()
    job_id = submit_lines(caller)
    answer = application.get(f"/v1/jobs/{job_id}/events", headers=headers_of(caller) | {"Last-Event-ID": "abc"})
    assert (answer.status_code, answer.get_json()["error"]["param"]) == (400, "Last-Event-ID")


def test_a_strangers_events_are_not_found(application: FlaskClient) -> None:
    job_id = submit_lines(new_caller("one"))
    answer = application.get(f"/v1/jobs/{job_id}/events", headers=headers_of(new_caller("two")))
    assert answer.status_code == 404
