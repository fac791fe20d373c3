from __future__ import annotations

import socket
import threading
import time

import pytest
from openai import OpenAI

from core import jobs, outcomes
from core.claims import claim
from core.database import transaction
from core.retention import forget_batches_kept_too_long, set_retention
from core.webhook_deliveries import DeliveryStatus, replay, resend
from core.webhook_endpoints import change_endpoint, get_endpoint
from core.webhook_events import EventType
from core.webhook_secrets import ensure_secret, rotate_secret
from core.webhooks import JobWebhook, announce_batch
from tests.domain import MODEL, ended_batch, new_caller, read, rows, submit_lines
from tests.receiver import Answer, dripping, receiving, reset, silence, status
from tests.waiting import wait_until
from tests.webhook_domain import deliveries, ended_job, endpoint, statuses

pytestmark = pytest.mark.usefixtures("webhooks_to_here", "courier")


def test_a_jobs_webhook_is_verified_by_the_official_libraries() -> None:
    caller = new_caller()
    with receiving() as receiver:
        ended_job(caller, JobWebhook(url=receiver.url))
        wait_until(lambda: receiver.requests)
        with transaction() as connection:
            secret = ensure_secret(connection, caller.account_id)
    (request,) = receiver.requests
    content = request.verified(secret)
    assert (content["type"], content["id"]) == ("job.completed", request.webhook_id)
    event = OpenAI(api_key="unused", webhook_secret=secret).webhooks.unwrap(request.body, request.headers)
    assert event.to_dict()["data"] == content["data"]


def test_every_endpoint_gets_each_event_under_the_same_id_and_its_own_signature() -> None:
    caller = new_caller()
    with receiving() as one, receiving() as two:
        secrets = [endpoint(caller, receiver)[1] for receiver in (one, two)]
        ended_job(caller)
        wait_until(lambda: len(one.requests) == len(two.requests) == 2)
    for receiver, secret in zip((one, two), secrets, strict=True):
        assert [request.verified(secret)["type"] for request in receiver.requests] == ["job.started", "job.completed"]
    assert [request.webhook_id for request in one.requests] == [request.webhook_id for request in two.requests]


def test_the_text_comes_along_when_it_is_asked_for() -> None:
    caller = new_caller()
    with receiving() as receiver:
        _, secret = endpoint(caller, receiver, include_text=True)
        ended_job(caller)
        wait_until(lambda: len(receiver.requests) == 2)
    started, completed = (request.verified(secret)["data"] for request in receiver.requests)
    assert isinstance(started, dict) and isinstance(completed, dict)
    assert ("text" in started, completed["text"]) == (False, "irlandais")


def test_a_canceled_job_is_told_as_canceled() -> None:
    caller = new_caller()
    with receiving() as receiver:
        _, secret = endpoint(caller, receiver)
        jobs.cancel(caller, submit_lines(caller))
        wait_until(lambda: receiver.requests)
    assert receiver.requests[0].verified(secret)["type"] == "job.canceled"


def test_a_delivery_that_fails_is_tried_again_under_its_id_with_a_new_timestamp() -> None:
    caller = new_caller()
    with receiving(status(500, 503, 200)) as receiver:
        ended_job(caller, JobWebhook(url=receiver.url))
        wait_until(lambda: statuses(caller) == [("job.completed", "delivered")])
    assert len({request.webhook_id for request in receiver.requests}) == 1
    (delivery,) = deliveries(caller)
    assert [attempt.status_code for attempt in delivery.attempts] == [500, 503, 200]
    assert delivery.attempts[0].response == "thanks"
    first, last = receiver.requests[0].headers, receiver.requests[-1].headers
    assert int(last["webhook-timestamp"]) >= int(first["webhook-timestamp"])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            status(302, headers={"Location": "http://127.0.0.1:1/elsewhere"}),
            "redirects (302) to http://127.0.0.1:1/else",
        ),
        (status(404), "answered 404"),
        (reset, "the request failed"),
        (silence(threading.Event()), "no answer within 1 s"),
        (dripping(threading.Event()), "no answer within 1 s"),
    ],
    ids=["redirect", "not found", "reset", "silent", "dripping"],
)
def test_anything_but_2xx_is_a_failure_with_its_reason(answer: Answer, error: str) -> None:
    caller = new_caller()
    with receiving(answer) as receiver:
        began = time.monotonic()
        ended_job(caller, JobWebhook(url=receiver.url))
        wait_until(lambda: deliveries(caller)[0].attempts)
        assert time.monotonic() - began < 3
        assert error in str(deliveries(caller)[0].attempts[0].error)


def test_a_name_that_turns_inwards_is_judged_anew_at_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = new_caller()
    led_to = ["127.0.0.1", "10.0.0.1", "169.254.169.254"]
    asked: list[str] = []

    def rebinding(host: str, port: int, *_: object, **__: object) -> object:
        asked.append(host)
        address = led_to[min(len(asked), len(led_to)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    with receiving(status(500, headers={"Connection": "close"})) as receiver:
        port = receiver.url.rsplit(":", 1)[1].split("/")[0]
        webhook = JobWebhook(url=f"http://rebinding.example:{port}/hook")
        system = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: (rebinding if host == "rebinding.example" else system)(host, *rest, **more),
        )
        ended_job(caller, webhook)
        wait_until(lambda: len(deliveries(caller)[0].attempts) >= 3)
        attempts = deliveries(caller)[0].attempts
    assert [attempt.status_code for attempt in attempts[:3]] == [500, None, None]
    assert all("not allowed" in str(attempt.error) for attempt in attempts[1:3])
    assert len(receiver.requests) == 1 and len(asked) >= 3


def test_of_an_answer_of_megabytes_only_the_first_kilobyte_is_read() -> None:
    caller = new_caller()
    with receiving(status(200, body=b"x" * 20_000_000)) as receiver:
        ended_job(caller, JobWebhook(url=receiver.url))
        wait_until(lambda: statuses(caller) == [("job.completed", "delivered")])
    assert deliveries(caller)[0].attempts[0].response == "x" * 1024


def test_the_receivers_retry_after_is_honoured() -> None:
    caller = new_caller()
    with receiving(status(429, headers={"Retry-After": "3600"})) as receiver:
        ended_job(caller, JobWebhook(url=receiver.url))
        wait_until(lambda: deliveries(caller)[0].attempts)
    (delivery,) = deliveries(caller)
    assert delivery.next_attempt_at is not None
    assert 3500 < (delivery.next_attempt_at - delivery.attempts[0].ended_at).total_seconds() < 3700


def test_a_receiver_that_is_gone_is_disabled_and_gets_nothing_more() -> None:
    caller = new_caller()
    with receiving(status(410)) as receiver:
        endpoint_id, _ = endpoint(caller, receiver)
        ended_job(caller)
        wait_until(lambda: {status for _, status in statuses(caller)} == {"failed"})
        with transaction() as connection:
            assert "410" in str(get_endpoint(connection, caller, endpoint_id).disabled_reason)
        before = len(receiver.requests)
        ended_job(caller)
        assert len(deliveries(caller)) == 2
    assert len(receiver.requests) == before


def test_an_endpoint_that_fails_for_days_is_disabled_and_says_so() -> None:
    caller = new_caller()
    with receiving(status(500)) as receiver:
        endpoint_id, _ = endpoint(caller, receiver)
        ended_job(caller)
        wait_until(lambda: rows("SELECT failing_since FROM webhook_endpoints") != [(None,)])
        rows("UPDATE webhook_endpoints SET failing_since = now() - interval '5 days' RETURNING id")
        wait_until(lambda: rows("SELECT disabled_at FROM webhook_endpoints") != [(None,)])
    with transaction() as connection:
        found = get_endpoint(connection, caller, endpoint_id)
    assert found.disabled_reason == "every attempt has failed for 5 days"


def test_an_end_waits_for_one_attempt_of_the_start_which_is_then_superseded() -> None:
    caller = new_caller()
    with receiving(status(500, 200)) as receiver:
        endpoint(caller, receiver)
        submit_lines(caller)
        (found,) = claim("wrk_1", MODEL, most=1)
        outcomes.finish([read(found)])
        wait_until(lambda: statuses(caller) == [("job.started", "superseded"), ("job.completed", "delivered")])
    assert len(receiver.requests) == 2


def test_a_silent_receiver_delays_nobody_else() -> None:
    caller, other = new_caller("silent"), new_caller("other")
    over = threading.Event()
    with receiving(silence(over)) as silent, receiving() as receiver:
        for _ in range(20):
            ended_job(caller, JobWebhook(url=silent.url))
        wait_until(lambda: silent.requests)
        began = time.monotonic()
        ended_job(other, JobWebhook(url=receiver.url))
        wait_until(lambda: receiver.requests)
        assert time.monotonic() - began < 0.9  # less than one timeout
        over.set()


def test_many_dead_receivers_leave_threads_for_the_living() -> None:
    over = threading.Event()
    living = new_caller("living")
    with receiving(silence(over)) as silent, receiving() as receiver:
        for number in range(60):
            ended_job(new_caller(f"dead {number}"), JobWebhook(url=silent.url))
        wait_until(lambda: rows("SELECT count(*) FROM webhook_attempts") >= [(60,)], timeout_s=30)
        began = time.monotonic()
        ended_job(living, JobWebhook(url=receiver.url))
        wait_until(lambda: receiver.requests)
        assert time.monotonic() - began < 0.9
        over.set()


def test_both_secrets_sign_while_a_rotation_overlaps() -> None:
    caller = new_caller()
    with receiving() as receiver:
        endpoint_id, old = endpoint(caller, receiver)
        with transaction() as connection:
            new = rotate_secret(connection, endpoint_id)
        ended_job(caller)
        wait_until(lambda: receiver.requests)
    assert receiver.requests[0].verified(old) == receiver.requests[0].verified(new)


def test_what_failed_is_sent_again_one_by_one_or_all_since_a_time() -> None:
    caller = new_caller()
    with receiving(status(410, 410, 200)) as receiver:
        for _ in range(2):
            ended_job(caller, JobWebhook(url=receiver.url))
        wait_until(lambda: [status for _, status in statuses(caller)] == ["failed", "failed"])
        one, other = deliveries(caller)
        with transaction() as connection:
            resend(connection, caller, one.id)
        wait_until(lambda: statuses(caller)[0][1] == "delivered")
        with transaction() as connection:
            assert replay(connection, caller, since=other.created_at, endpoint_id=None) == 1
        wait_until(lambda: statuses(caller)[1][1] == "delivered")
    ids = [request.webhook_id for request in receiver.requests]
    assert sorted(ids) == sorted([one.event_id, other.event_id] * 2)


def test_a_changed_address_is_used_from_the_next_attempt_on() -> None:
    caller = new_caller()
    with receiving(status(500)) as broken, receiving() as mended:
        endpoint_id, _ = endpoint(caller, broken)
        ended_job(caller)
        wait_until(lambda: broken.requests)
        with transaction() as connection:
            change_endpoint(connection, caller, endpoint_id, changes={"url": mended.url}, enabled=None)
        wait_until(lambda: ("job.completed", "delivered") in statuses(caller))
    assert mended.requests


def test_deleting_a_job_takes_its_metadata_and_answers_out_of_the_log() -> None:
    caller = new_caller()
    with receiving() as receiver:
        job_id = ended_job(caller, JobWebhook(url=receiver.url))
        wait_until(lambda: deliveries(caller, status=DeliveryStatus.DELIVERED))
        jobs.delete_job(caller, job_id)
    assert rows("SELECT data ? 'metadata' FROM webhook_deliveries") == [(False,)]
    assert rows("SELECT response FROM webhook_attempts") == [(None,)]


def test_forgetting_a_batch_takes_its_metadata_and_answers_out_of_the_log() -> None:
    caller = new_caller()
    with transaction() as connection:
        set_retention(connection, caller.account_id, 1)
    with receiving() as receiver:
        endpoint(caller, receiver, events=[EventType.BATCH_COMPLETED])
        for days in (0, 2):
            batch_id = ended_batch(caller, days)
            with transaction() as connection:
                announce_batch(connection, batch_id)
        wait_until(lambda: len(deliveries(caller, status=DeliveryStatus.DELIVERED)) == 2)
        with transaction() as connection:
            forget_batches_kept_too_long(connection)
    assert rows("SELECT data ? 'metadata' FROM webhook_deliveries ORDER BY id") == [(True,), (False,)]
    assert rows("SELECT response IS NULL FROM webhook_attempts ORDER BY delivery_id") == [(False,), (True,)]
