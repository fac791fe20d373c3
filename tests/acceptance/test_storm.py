"""A storm against the running service: many clients, few credits, a killed worker, a revoked key; and exact sums."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.service import Service, running_service
from tests.waiting import wait_until

LINE = Path("tests/data/line.jpg").resolve()
CLIENTS = 24
#: Submissions, each of which so many clients send at once, and the lines of each.
SUBMISSIONS, SENDERS, LINES = 50, 4, 2
#: So many of them can be paid.
PAYABLE = 35
#: The sample line that the service reads at its start.
SAMPLE = 1


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with one fast model, an account of few credits, and leases that end soon."""
    settings = {
        "INKQUEUE_MODELS": "ppocr-v6",
        "INKQUEUE_SIGNUP_GRANT_CREDITS": str(PAYABLE * LINES + SAMPLE),
        "INKQUEUE_LEASE_S": "3",
    }
    with running_service(tmp_path_factory.mktemp("state"), **settings) as service:
        yield service


def sent(http: httpx.Client, number: int) -> httpx.Response:
    """The answer to a submission under its Idempotency-Key, sent until it is not just being taken."""
    answers: list[httpx.Response] = []
    files = [("image", (f"{number}-{line}.jpg", LINE.read_bytes())) for line in range(LINES)]

    def is_answered() -> bool:
        answers.append(http.post("/v1/jobs", files=files, headers={"Idempotency-Key": f"storm-{number}"}))
        return answers[-1].status_code != 409

    wait_until(is_answered)
    return answers[-1]


def kill_between_finish_and_acknowledge(service: Service) -> None:
    """Kill the worker at a moment at which it has charged lines under a ticket that it has not acknowledged."""
    before = captures(service)
    caught: list[int] = []

    def catch() -> bool:
        # Who does not stand by is not woken, but served a ticket.
        with service.redis() as redis:
            for key in redis.scan_iter("inkqueue:standing-by:*"):
                redis.delete(key)
        if captures(service) == before:
            return False
        caught[:] = service.children("worker.main")
        for pid in caught:
            os.kill(pid, signal.SIGSTOP)
        # Nothing of it moves any more: what Redis says stays true until it is dead.
        with service.redis() as redis:
            if redis.hlen("unacked"):
                return True
        for pid in caught:
            os.kill(pid, signal.SIGCONT)
        return False

    wait_until(catch, timeout_s=30)
    for pid in caught:
        os.kill(pid, signal.SIGKILL)


def captures(service: Service) -> int:
    ((count,),) = service.rows("SELECT count(*) FROM ledger WHERE kind = 'capture'")
    return int(count)


def assert_audit_is_clean(service: Service) -> None:
    assert service.command("audit") == "ledger, jobs, keys and grants agree"


def test_submissions_sent_again_and_again_at_once_on_few_credits_while_a_worker_dies_are_charged_once(
    service: Service,
) -> None:
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        killed = pool.submit(kill_between_finish_and_acknowledge, service)
        order = [number for number in range(SUBMISSIONS) for _ in range(SENDERS)]
        answers = list(pool.map(lambda number: sent(service.http, number), order))
        killed.result()
    by_submission = [answers[first : first + SENDERS] for first in range(0, len(answers), SENDERS)]
    outcomes = [{(a.status_code, a.json().get("id")) for a in of_one} for of_one in by_submission]
    assert all(len(outcome) == 1 for outcome in outcomes)
    taken = [job_id for ((status, job_id),) in outcomes if status == 202]
    refused = [a.json()["error"]["code"] for a in answers if a.status_code != 202]
    assert len(set(taken)) == len(taken) == PAYABLE
    assert set(refused) == {"insufficient_credits"}
    replays = sum("Idempotent-Replayed" in a.headers for a in answers)
    assert replays == PAYABLE * (SENDERS - 1)

    ended = [service.ended(job_id) for job_id in taken]
    assert {(job["status"], *job["usage"].values()) for job in ended} == {("succeeded", LINES, LINES, 0)}
    assert service.http.get("/v1/credits").json() == {"object": "credits", "balance": 0, "held": 0, "available": 0}
    assert service.rows("SELECT count(*), count(DISTINCT image_id) FROM ledger WHERE kind = 'capture'") == [
        (PAYABLE * LINES + SAMPLE,) * 2
    ]
    assert_audit_is_clean(service)


def test_a_key_revoked_amid_its_submissions_takes_none_more_and_pays_for_those_before(service: Service) -> None:
    service.command("credits", "grant", "default", "32")
    key = service.http.post("/v1/keys", json={"name": "scanner"}).json()
    headers = {"Authorization": f"Bearer {key['key']}"}

    def submitted(_: int) -> httpx.Response:
        image = LINE.read_bytes()
        return service.http.post("/v1/jobs", content=image, headers=headers | {"Content-Type": "image/jpeg"})

    with ThreadPoolExecutor(8) as pool:
        at_once = [pool.submit(submitted, number) for number in range(32)]
        at_once[8].result()
        assert service.http.delete(f"/v1/keys/{key['id']}").is_success
        late = list(pool.map(submitted, range(4)))
    assert {answer.json()["error"]["code"] for answer in late} == {"invalid_api_key"}
    answers = [answer.result() for answer in at_once]
    taken = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert taken and {answer.status_code for answer in answers} == {202, 401}
    assert {service.ended(job_id)["status"] for job_id in taken} == {"succeeded"}
    shown = service.http.get(f"/v1/keys/{key['id']}").json()
    assert (shown["spent_this_month"], shown["held"]) == (len(taken), 0)
    assert service.http.get("/v1/credits").json()["balance"] == 32 - len(taken)
    assert_audit_is_clean(service)
