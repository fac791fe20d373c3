from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from core import accounts
from core.accounts import KeyTerms, Scope
from core.database import transaction
from core.settings import settings
from core.webhook_secrets import secrets_in_use
from tests.domain import new_key, png, rows
from tests.receiver import receiving, status
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("webhooks_to_here")

PICTURE = png()
HOOK = "http://127.0.0.1:5000/hook"


def error_of(answer: TestResponse) -> tuple[int, str, str | None]:
    error = answer.get_json()["error"]
    return answer.status_code, error["code"], error["param"]


def made(http: FlaskClient, url: str = HOOK, **options: object) -> dict[str, Any]:
    answer = http.post("/v1/webhook_endpoints", json={"url": url} | options)
    assert answer.status_code == 201, answer.text
    return dict(answer.get_json())


def test_an_endpoint_is_made_shown_changed_and_deleted(http: FlaskClient) -> None:
    endpoint = made(http)
    assert endpoint["secret"].startswith("whsec_")
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    assert "secret" not in http.get(path).get_json()
    assert http.patch(path, json={"events": ["job.started"]}).get_json()["events"] == ["job.started"]
    assert [found["id"] for found in http.get("/v1/webhook_endpoints").get_json()["data"]] == [endpoint["id"]]
    assert http.delete(path).get_json()["deleted"] is True
    assert error_of(http.get(path))[:2] == (404, "not_found")


def test_an_endpoint_hears_of_ends_and_of_low_credits_unless_it_says_otherwise(http: FlaskClient) -> None:
    assert made(http)["events"] == ["job.completed", "job.failed", "job.canceled", "credits.low"]
    assert made(http, events=["credits.low"])["events"] == ["credits.low"]


def test_the_webhook_of_a_job_cannot_hear_of_the_account(http: FlaskClient) -> None:
    job = {"images": [{"base64": ""}], "webhook": {"url": HOOK, "events": ["credits.low"]}}
    assert error_of(http.post("/v1/jobs", json=job)) == (400, "malformed_request", "webhook.events.0")


def test_an_endpoint_is_disabled_and_enabled_by_its_account(http: FlaskClient) -> None:
    path = f"/v1/webhook_endpoints/{made(http)['id']}"
    assert http.patch(path, json={"enabled": False}).get_json()["disabled_reason"] == "disabled by its account"
    assert http.patch(path, json={"enabled": True}).get_json()["disabled_at"] is None


def test_secrets_are_encrypted_at_rest(http: FlaskClient) -> None:
    secret = http.get("/v1/webhook_secret").get_json()["secret"]
    assert http.get("/v1/webhook_secret").get_json()["secret"] == secret
    ((sealed,),) = rows("SELECT sealed FROM webhook_secrets")
    assert isinstance(sealed, bytes) and secret.encode() not in sealed


@pytest.mark.parametrize("body", [{"json": {}}, {"json": {"overlap_s": 0}}])
def test_a_secret_is_replaced(http: FlaskClient, body: dict[str, object]) -> None:
    before = http.get("/v1/webhook_secret").get_json()["secret"]
    after = http.post("/v1/webhook_secret/rotate_secret", **body).get_json()["secret"]
    assert after != before
    assert http.get("/v1/webhook_secret").get_json()["secret"] == after
    endpoint = made(http)
    path = f"/v1/webhook_endpoints/{endpoint['id']}/rotate_secret"
    assert http.post(path, **body).get_json()["secret"] != endpoint["secret"]


def test_a_secret_under_a_lost_key_is_replaced_while_the_old_one_overlaps(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    http.get("/v1/webhook_secret")
    (account_id,) = rows("SELECT id FROM accounts")[0]
    monkeypatch.setenv("INKQUEUE_SECRET_KEY", "another secret key of the operator's")
    settings.cache_clear()
    assert error_of(http.get("/v1/webhook_secret"))[:2] == (503, "unavailable")
    secret = http.post("/v1/webhook_secret/rotate_secret", json={}).get_json()["secret"]
    with transaction() as connection:
        assert secrets_in_use(connection, str(account_id)) == [secret]


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.5/hook",
        "http://169.254.169.254/latest",
        "http://[::ffff:10.0.0.1]/",
        "http://2130706433.:80/",
        "ftp://example.org/",
        "http://user:pass@example.org/",
        "http://example.org:22222222/",
        "https://example.org/é",
        "no address",
    ],
)
def test_an_address_that_may_not_be_sent_to_is_refused_at_the_door(http: FlaskClient, url: str) -> None:
    assert error_of(http.post("/v1/webhook_endpoints", json={"url": url})) == (422, "url_not_allowed", "url")
    answer = http.post("/v1/jobs", data={"image": (io.BytesIO(PICTURE), "a.png"), "webhook_url": url})
    assert error_of(answer) == (422, "url_not_allowed", "webhook_url")


def test_a_job_takes_a_webhook_in_each_of_its_forms(http: FlaskClient) -> None:
    option = json.dumps({"url": HOOK, "events": ["job.failed"]})
    http.post("/v1/jobs", data={"image": (io.BytesIO(PICTURE), "a.png"), "webhook_url": HOOK})
    http.post("/v1/jobs", data={"image": (io.BytesIO(PICTURE), "a.png"), "webhook": option})
    http.post("/v1/jobs", data=PICTURE, content_type="image/png", query_string={"webhook_url": HOOK})
    assert rows("SELECT webhook_url, cardinality(webhook_events) FROM jobs ORDER BY id") == [
        (HOOK, 3),
        (HOOK, 1),
        (HOOK, 3),
    ]


def test_without_a_secret_key_there_are_no_webhooks_and_the_answer_says_why(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INKQUEUE_SECRET_KEY", "")
    settings.cache_clear()
    for answer in (
        http.get("/v1/webhook_secret"),
        http.post("/v1/jobs", data={"image": (io.BytesIO(PICTURE), "a.png"), "webhook_url": HOOK}),
    ):
        assert error_of(answer)[:2] == (503, "unavailable")
        assert "INKQUEUE_SECRET_KEY" in answer.get_json()["error"]["message"]
    assert rows("SELECT count(*) FROM jobs") == [(0,)]


@pytest.mark.usefixtures("courier")
def test_a_ping_is_delivered_and_logged(http: FlaskClient) -> None:
    with receiving(status(204, body=b"")) as receiver:
        endpoint = made(http, receiver.url)
        sent = http.post(f"/v1/webhook_endpoints/{endpoint['id']}/ping").get_json()
        path = f"/v1/webhook_deliveries/{sent['id']}"
        wait_until(lambda: http.get(path).get_json()["status"] == "delivered")
    assert receiver.requests[0].verified(endpoint["secret"])["type"] == "endpoint.ping"
    (attempt,) = http.get(path).get_json()["attempts"]
    assert (attempt["status_code"], attempt["error"]) == (204, None)


@pytest.mark.usefixtures("courier")
def test_failed_deliveries_are_listed_and_replayed(http: FlaskClient) -> None:
    with receiving(status(410, 410, 200)) as receiver:
        endpoint = made(http, receiver.url)
        path = f"/v1/webhook_endpoints/{endpoint['id']}"
        sent = http.post(f"{path}/ping").get_json()
        failed = {"status": "failed", "endpoint_id": endpoint["id"]}
        wait_until(lambda: http.get("/v1/webhook_deliveries", query_string=failed).get_json()["data"])
        assert "410" in http.get(path).get_json()["disabled_reason"]
        http.post(f"/v1/webhook_deliveries/{sent['id']}/resend")
        wait_until(lambda: len(receiver.requests) == 2)
        wait_until(lambda: http.get("/v1/webhook_deliveries", query_string=failed).get_json()["data"])
        since = {"since": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
        assert http.post("/v1/webhook_deliveries/replay", json=since).get_json()["count"] == 0
        http.patch(path, json={"enabled": True})
        assert http.post("/v1/webhook_deliveries/replay", json=since).get_json()["count"] == 1
        wait_until(lambda: http.get(f"/v1/webhook_deliveries/{sent['id']}").get_json()["status"] == "delivered")
    assert {request.webhook_id for request in receiver.requests} == {sent["webhook_id"]}


def test_deliveries_are_listed_page_by_page(http: FlaskClient) -> None:
    path = f"/v1/webhook_endpoints/{made(http)['id']}/ping"
    sent = [http.post(path).get_json()["id"] for _ in range(3)]
    first = http.get("/v1/webhook_deliveries?limit=2").get_json()
    rest = http.get(f"/v1/webhook_deliveries?limit=2&after={first['next_cursor']}").get_json()
    assert [delivery["id"] for delivery in first["data"] + rest["data"]] == sent[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_another_accounts_webhooks_are_not_found(http: FlaskClient) -> None:
    endpoint = made(http)
    delivery = http.post(f"/v1/webhook_endpoints/{endpoint['id']}/ping").get_json()
    stranger = {"Authorization": f"Bearer {new_key('stranger')}"}
    for method, path in [
        ("GET", f"webhook_endpoints/{endpoint['id']}"),
        ("DELETE", f"webhook_endpoints/{endpoint['id']}"),
        ("POST", f"webhook_endpoints/{endpoint['id']}/ping"),
        ("GET", f"webhook_deliveries/{delivery['id']}"),
        ("POST", f"webhook_deliveries/{delivery['id']}/resend"),
    ]:
        assert error_of(http.open(f"/v1/{path}", method=method, headers=stranger))[:2] == (404, "not_found")
    assert http.get("/v1/webhook_deliveries", headers=stranger).get_json()["data"] == []


def test_what_was_for_a_deleted_endpoint_is_not_sent_again(http: FlaskClient) -> None:
    path = f"/v1/webhook_endpoints/{made(http)['id']}"
    sent = http.post(f"{path}/ping").get_json()
    http.delete(path)
    assert http.get(f"/v1/webhook_deliveries/{sent['id']}").get_json()["status"] == "failed"
    assert error_of(http.post(f"/v1/webhook_deliveries/{sent['id']}/resend"))[:2] == (404, "not_found")
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert http.post("/v1/webhook_deliveries/replay", json={"since": since}).get_json()["count"] == 0


def test_a_key_that_may_only_look_does_not_learn_the_signing_secret(http: FlaskClient) -> None:
    terms = KeyTerms(scopes=frozenset({Scope.READ}))
    with transaction() as connection:
        account_id = accounts.ensure_account(connection, "archive")
        key = accounts.create_key(connection, account_id=account_id, name="dashboard", terms=terms)
    answer = http.get("/v1/webhook_secret", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 403
