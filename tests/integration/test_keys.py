from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from core import accounts, claims, identification, outcomes
from core.accounts import Caller, KeyTerms
from core.database import transaction
from core.errors import KeyBudgetExceeded
from core.jobs import cancel
from core.layouts import lay_out
from core.transcript import BoundingBox
from tests.domain import MODEL, assert_ledger_balances, new_caller, png, read, rows, submit_lines

PICTURE = png()


def made(http: FlaskClient, **options: Any) -> dict[str, Any]:
    answer = http.post("/v1/keys", json={"name": "scanner"} | options)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def having(key: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['key']}"}


def submit(http: FlaskClient, key: dict[str, Any]) -> TestResponse:
    return http.post("/v1/jobs", data=PICTURE, content_type="image/png", headers=having(key))


def code(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def capped_caller(cap: int, *, grant_credits: int = 1000) -> Caller:
    account_id = new_caller(grant_credits=grant_credits).account_id
    with transaction() as connection:
        key = accounts.create_key(
            connection, account_id=account_id, name="capped", terms=KeyTerms(monthly_cap_micro=cap * 1_000_000)
        )
        return identification.caller_of(connection, key)


def read_all() -> None:
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=1000)])


def test_a_key_is_shown_once_and_works(http: FlaskClient) -> None:
    key = made(http)
    assert key["key"].startswith("ink_") and key["key"].endswith(key["last_four"])
    assert submit(http, key).status_code == 202
    listed = http.get("/v1/keys").get_json()["data"]
    assert [(found["name"], found["key"]) for found in listed] == [("test", None), ("scanner", None)]
    assert listed[1]["last_used_at"] is not None


SCOPES = [  # who may look, submit, and list keys
    ("read", [200, 403, 403]),
    ("jobs", [200, 202, 403]),
    ("admin", [200, 202, 200]),
]


@pytest.mark.parametrize(("scope", "statuses"), SCOPES)
def test_each_scope_holds_those_below_it(http: FlaskClient, scope: str, statuses: list[int]) -> None:
    key = made(http, scopes=[scope])
    answers = [
        http.get("/v1/jobs", headers=having(key)),
        submit(http, key),
        http.get("/v1/keys", headers=having(key)),
    ]
    assert [answer.status_code for answer in answers] == statuses
    assert {code(answer)[1] for answer in answers if answer.status_code == 403} <= {"missing_scope"}


def test_a_revoked_key_is_refused_at_once(http: FlaskClient) -> None:
    key = made(http)
    assert http.delete(f"/v1/keys/{key['id']}").get_json()["revoked_at"] is not None
    assert code(submit(http, key)) == (401, "invalid_api_key")


def test_a_key_that_has_expired_is_refused(http: FlaskClient) -> None:
    key = made(http, expires_at=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    assert submit(http, key).status_code == 202
    with transaction() as connection:
        connection.execute(text("UPDATE api_keys SET expires_at = now() WHERE id = :id"), {"id": key["id"]})
    assert code(submit(http, key)) == (401, "invalid_api_key")


def test_a_rotated_key_has_a_new_secret_and_the_old_one_stops(http: FlaskClient) -> None:
    old = made(http)
    new = http.post(f"/v1/keys/{old['id']}/rotate").get_json()
    assert new["id"] == old["id"]
    assert [submit(http, key).status_code for key in (old, new)] == [401, 202]


def test_the_old_secret_may_be_taken_for_a_while_yet(http: FlaskClient) -> None:
    old = made(http)
    new = http.post(f"/v1/keys/{old['id']}/rotate?overlap_s=60").get_json()
    assert [submit(http, key).status_code for key in (old, new)] == [202, 202]
    with transaction() as connection:
        connection.execute(text("UPDATE api_keys SET previous_until = now() WHERE id = :id"), {"id": old["id"]})
    assert [submit(http, key).status_code for key in (old, new)] == [401, 202]


@pytest.mark.parametrize("key_id", ["key_unknown", "%00", "key_" + "0" * 26])
def test_a_key_that_is_not_ones_own_is_not_found(http: FlaskClient, key_id: str) -> None:
    assert code(http.get(f"/v1/keys/{key_id}")) == (404, "not_found")
    assert code(http.delete(f"/v1/keys/{key_id}")) == (404, "not_found")
    assert code(http.post(f"/v1/keys/{key_id}/rotate")) == (404, "not_found")


@pytest.mark.parametrize(
    "options", [{"name": ""}, {"scopes": ["all"]}, {"scopes": []}, {"expires_at": "2001-01-01T00:00:00Z"},
                {"monthly_cap": 0}, {"monthly_cap": "0.0000001"}, {"limits": {"requests_per_minute": 0}}]
)  # fmt: skip
def test_a_key_with_impossible_terms_is_not_made(http: FlaskClient, options: dict[str, Any]) -> None:
    answer = http.post("/v1/keys", json={"name": "scanner"} | options)
    assert code(answer) == (400, "malformed_request")


def test_a_key_cannot_spend_more_than_its_cap_in_a_month(http: FlaskClient) -> None:
    key = made(http, monthly_cap=2)
    submit(http, key)
    read_all()
    submit(http, key)
    answer = submit(http, key)
    assert code(answer) == (402, "key_budget_exceeded")
    assert "1 were charged, 1 are held" in answer.get_json()["error"]["message"]
    shown = http.get(f"/v1/keys/{key['id']}").get_json()
    assert (shown["monthly_cap"], shown["spent_this_month"], shown["held"]) == (2, 1, 1)


def test_submissions_at_once_never_pass_the_cap_together() -> None:
    caller = capped_caller(5)

    def submitted(_: int) -> bool:
        try:
            submit_lines(caller)
        except KeyBudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(submitted, range(12))) == 5
    assert_ledger_balances()


def test_what_was_canceled_counts_no_more_against_the_cap() -> None:
    caller = capped_caller(3)
    cancel(caller, submit_lines(caller, 3))
    submit_lines(caller, 3)
    assert_ledger_balances()


def test_the_cap_is_that_of_a_calendar_month() -> None:
    caller = capped_caller(3)
    submit_lines(caller, 3)
    read_all()
    with transaction() as connection:
        connection.execute(text("UPDATE key_months SET month = month - interval '1 month'"))
    submit_lines(caller, 3)


def test_a_page_that_would_pass_the_keys_cap_fails_free() -> None:
    caller = capped_caller(10)
    submit_lines(caller)
    (page,) = claims.claim("wrk_1", MODEL, most=1)
    boxes = [BoundingBox(xmin=0, ymin=10 * line, xmax=40, ymax=10 * line + 8) for line in range(11)]
    assert lay_out(page, boxes) is None
    assert rows("SELECT status, error_code FROM images") == [("failed", "key_budget_exceeded")]
    assert_ledger_balances()
