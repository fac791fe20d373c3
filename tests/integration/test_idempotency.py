from __future__ import annotations

import base64
import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Request
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from api.submission import read_submission
from core import claims, credits, idempotency, outcomes
from core.database import transaction
from core.idempotency import Once
from core.new_jobs import NewJob
from tests.domain import MODEL, assert_ledger_balances, new_caller, new_key, png, read, rows
from worker.cleaner import Cleaner

PICTURE = png()
KEY = {"Idempotency-Key": "8a1f"}


def raw(http: FlaskClient, data: bytes = PICTURE, **query: str) -> TestResponse:
    return http.post("/v1/jobs", data=data, content_type="image/png", query_string=query, headers=KEY)


def form(http: FlaskClient, *names: str, **options: str) -> TestResponse:
    files = [(io.BytesIO(PICTURE), name) for name in names]
    return http.post("/v1/jobs", data={"image": files, **options}, headers=KEY)


def code(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def read_all() -> None:
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=1000)])


def test_the_same_submission_twice_is_one_job_and_one_charge(http: FlaskClient) -> None:
    first, again = raw(http), raw(http)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.get_json()["id"] == again.get_json()["id"]
    assert again.headers["Location"] == first.headers["Location"]
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    assert rows("SELECT held_micro FROM accounts") == [(1_000_000,)]


def test_a_replay_shows_the_job_as_it_is_now(http: FlaskClient) -> None:
    raw(http)
    read_all()
    again = raw(http)
    assert (again.status_code, again.get_json()["status"], again.get_json()["text"]) == (202, "succeeded", "irlandais")


def test_the_same_form_is_told_by_its_files_and_options_not_by_its_boundary(http: FlaskClient) -> None:
    first = form(http, "a.png", "b.png", priority="bulk")
    assert form(http, "a.png", "b.png", priority="bulk").get_json()["id"] == first.get_json()["id"]
    for other in (form(http, "a.png", "b.png"), form(http, "a.png", priority="bulk")):
        assert code(other) == (422, "idempotency_conflict")


def test_the_same_json_is_told_by_its_values_not_by_their_order(http: FlaskClient) -> None:
    body = '{"images": [{"url": "data:image/png;base64,%s"}], "priority": "%s"}'
    turned = '{"priority":"%s", "images":[{"url":"data:image/png;base64,%s"}]}'
    data = base64.b64encode(PICTURE).decode()
    sent = [body % (data, "bulk"), turned % ("bulk", data), body % (data, "normal")]
    first, same, other = (
        http.post("/v1/jobs", data=text, content_type="application/json", headers=KEY) for text in sent
    )
    assert first.get_json()["id"] == same.get_json()["id"]
    assert code(other) == (422, "idempotency_conflict")


@pytest.mark.parametrize("query", [{"priority": "bulk"}, {"mode": "line"}])
def test_another_submission_under_the_same_key_is_refused(http: FlaskClient, query: dict[str, str]) -> None:
    raw(http)
    assert code(raw(http, PICTURE, **query)) == (422, "idempotency_conflict")
    assert code(raw(http, data=png(41))) == (422, "idempotency_conflict")


def test_a_replay_of_a_deleted_job_is_gone(http: FlaskClient) -> None:
    http.delete(f"/v1/jobs/{raw(http).get_json()['id']}")
    assert code(raw(http)) == (410, "gone")


def test_a_submission_that_was_refused_may_be_sent_again(http: FlaskClient) -> None:
    with transaction() as connection:
        connection.execute(text("UPDATE accounts SET held_micro = balance_micro"))
    assert code(raw(http)) == (402, "insufficient_credits")
    with transaction() as connection:
        connection.execute(text("UPDATE accounts SET held_micro = 0"))
    assert raw(http).status_code == 202


def test_a_key_counts_for_its_account_only(http: FlaskClient) -> None:
    own = raw(http).get_json()["id"]
    http.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {new_key('stranger')}"
    assert raw(http).get_json()["id"] != own


def test_a_key_is_forgotten_after_a_day(http: FlaskClient) -> None:
    first = raw(http).get_json()["id"]
    with transaction() as connection:
        (left,) = connection.execute(text("SELECT expires_at - now() FROM idempotency_keys")).one()
        connection.execute(text("UPDATE idempotency_keys SET expires_at = now()"))
    assert 86_000 < left.total_seconds() <= 86_400
    second = raw(http)
    assert second.get_json()["id"] != first and "Idempotent-Replayed" not in second.headers
    with transaction() as connection:
        connection.execute(text("UPDATE idempotency_keys SET expires_at = now()"))
    Cleaner().clean()
    assert rows("SELECT count(*) FROM idempotency_keys") == [(0,)]


def test_while_the_first_is_being_written_the_second_is_told_so(http: FlaskClient) -> None:
    account_id = str(rows("SELECT id FROM accounts")[0][0])
    with transaction() as connection:
        assert not idempotency.in_progress(connection, [(account_id, "POST 8a1f")])
        credits.credit(connection, account_id, lock=True)
        idempotency.take(
            connection, account_id, Once(key="POST 8a1f", fingerprint=b""), job_id="job_1", status_code=202
        )
        assert code(raw(http)) == (409, "idempotency_in_progress")


def test_the_same_submission_many_times_at_once_is_one_job(http: FlaskClient) -> None:
    authorization = http.environ_base["HTTP_AUTHORIZATION"]

    def submitted(_: int) -> TestResponse:
        client = http.application.test_client()
        headers = KEY | {"Authorization": authorization}
        return client.post("/v1/jobs", data=PICTURE, content_type="image/png", headers=headers)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(submitted, range(48)))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {202, 409} and statuses[202] >= 1
    assert len({answer.get_json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert rows("SELECT count(*) FROM jobs") == [(1,)]
    assert_ledger_balances()


def test_who_comes_second_at_the_same_time_is_not_refused_for_what_the_first_has_taken(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_caller(grant_credits=1)
    first: list[TestResponse] = []

    def while_another_is_taken(request: Request) -> NewJob:
        monkeypatch.undo()
        client = http.application.test_client()
        client.environ_base |= http.environ_base
        with ThreadPoolExecutor(1) as elsewhere:
            first.append(elsewhere.submit(raw, client).result())
        return read_submission(request)

    monkeypatch.setattr("api.job_routes.read_submission", while_another_is_taken)
    second = raw(http)
    assert (first[0].status_code, second.status_code, second.headers["Idempotent-Replayed"]) == (202, 202, "true")
    assert second.get_json()["id"] == first[0].get_json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_none_is_refused(http: FlaskClient, key: str) -> None:
    answer = http.post("/v1/jobs", data=PICTURE, content_type="image/png", headers={"Idempotency-Key": key})
    assert code(answer) == (400, "malformed_request")


def test_a_job_under_an_id_of_ones_own_is_made_once_and_found_by_it(http: FlaskClient) -> None:
    first, again = (http.put("/v1/jobs/box-12.3", data=PICTURE, content_type="image/png") for _ in range(2))
    assert (first.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert first.get_json()["id"] == again.get_json()["id"] == http.get("/v1/jobs/box-12.3").get_json()["id"]
    assert http.post("/v1/jobs/box-12.3/cancel").get_json()["status"] == "canceled"
    assert b"event: done" in http.get("/v1/jobs/box-12.3/events").data
    other = http.put("/v1/jobs/box-12.3", data=png(41), content_type="image/png")
    assert code(other) == (422, "idempotency_conflict")


def test_an_id_of_ones_own_is_never_used_again(http: FlaskClient) -> None:
    http.put("/v1/jobs/box-12", data=PICTURE, content_type="image/png")
    http.delete("/v1/jobs/box-12")
    assert code(http.put("/v1/jobs/box-12", data=PICTURE, content_type="image/png")) == (410, "gone")
    assert code(http.get("/v1/jobs/box-12")) == (410, "gone")


@pytest.mark.parametrize("own_id", ["job_1", "job_" + "0" * 26, "-a", "a b", "x" * 129])
def test_an_id_that_could_be_ours_or_cannot_stand_in_a_path_is_refused(http: FlaskClient, own_id: str) -> None:
    answer = http.put(f"/v1/jobs/{own_id}", data=PICTURE, content_type="image/png")
    assert code(answer) == (400, "malformed_request")


def test_another_accounts_own_id_is_not_found(http: FlaskClient) -> None:
    http.put("/v1/jobs/box-12", data=PICTURE, content_type="image/png")
    http.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {new_key('stranger')}"
    assert code(http.get("/v1/jobs/box-12")) == (404, "not_found")
