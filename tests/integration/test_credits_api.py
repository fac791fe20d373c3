from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from core import accounts, claims, outcomes
from core.database import transaction
from tests.domain import MODEL, png, read, rows

PICTURE = png()


@pytest.fixture(scope="session")
def application() -> FlaskClient:
    return create_app().test_client()


@pytest.fixture
def http(application: FlaskClient) -> Iterator[FlaskClient]:
    """A client with a key of its own."""
    with transaction() as connection:
        account_id = accounts.ensure_account(connection, "archive")
        key = accounts.create_key(connection, account_id=account_id, name="test")
    application.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    yield application
    application.environ_base.pop("HTTP_AUTHORIZATION", None)


def submit(http: FlaskClient, lines: int = 1, **options: str) -> TestResponse:
    files = [(io.BytesIO(PICTURE), f"{index}.png") for index in range(lines)]
    return http.post("/v1/jobs", data={"image": files, **options})


def read_all() -> None:
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=1000)])


def test_the_price_list_says_what_is_charged(http: FlaskClient) -> None:
    prices = http.get("/v1/pricing").get_json()
    of_bulk = next(row for row in prices["prices"] if (row["model"], row["priority"]) == (MODEL, "bulk"))
    job_id = submit(http, 3, priority="bulk").get_json()["id"]
    read_all()
    bill = http.get(f"/v1/jobs/{job_id}/receipt").get_json()
    assert bill["price_version"] == prices["version"]
    assert bill["usage"] == {"lines": 3, "credits": 3 * of_bulk["credits_per_line"], "held": 0}
    captured = [entry["credits"] for entry in bill["entries"] if entry["kind"] == "capture"]
    assert captured == [of_bulk["credits_per_line"]] * 3


def test_a_dry_run_prices_a_job_and_queues_nothing(http: FlaskClient) -> None:
    answer = http.post("/v1/jobs?dry_run=1", data={"image": [(io.BytesIO(PICTURE), "a.png")] * 1, "mode": "line"})
    quote = answer.get_json()
    assert (answer.status_code, quote["lines"], quote["lines_exact"], quote["credits"]) == (200, 1, True, 1)
    assert (quote["affordable"], quote["available"], quote["queue_seconds"]) == (True, 1000, 0)
    assert rows("SELECT count(*) FROM jobs") == [(0,)]


def test_a_dry_run_of_a_raw_image_keeps_its_options(http: FlaskClient) -> None:
    answer = http.post("/v1/jobs?dry_run=1&priority=bulk", data=PICTURE, content_type="image/png")
    assert answer.get_json()["credits"] == 0.5


def test_a_dry_run_refuses_what_a_submission_would(http: FlaskClient) -> None:
    answer = http.post("/v1/jobs?dry_run=1", data=b"hello, world", content_type="image/png")
    assert answer.status_code == 415


def test_a_dry_run_tells_the_wait_from_how_fast_images_were_read_lately(http: FlaskClient) -> None:
    submit(http, 3)
    read_all()
    submit(http, 2)
    quote = http.post("/v1/jobs?dry_run=1", data=PICTURE, content_type="image/png").get_json()
    assert quote["queue_seconds"] == 200.0  # 2 ahead, 3 read within 300 s
