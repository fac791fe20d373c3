from __future__ import annotations

import io

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from core import claims, outcomes
from core.accounts import KeyTerms
from tests.domain import MODEL, new_key, png, read, rows

PICTURE = png()


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


def test_a_dry_run_heeds_the_cap_of_its_key(http: FlaskClient) -> None:
    key = new_key("archive", KeyTerms(monthly_cap_micro=500_000))
    quote = http.post(
        "/v1/jobs?dry_run=1", data=PICTURE, content_type="image/png", headers={"Authorization": f"Bearer {key}"}
    ).get_json()
    assert (quote["credits"], quote["available"], quote["affordable"]) == (1, 0.5, False)


def test_a_dry_run_of_a_raw_image_keeps_its_options(http: FlaskClient) -> None:
    answer = http.post("/v1/jobs?dry_run=1&priority=bulk", data=PICTURE, content_type="image/png")
    assert answer.get_json()["credits"] == 0.5


def test_a_dry_run_refuses_what_a_submission_would(http: FlaskClient) -> None:
    answer = http.post("/v1/jobs?dry_run=1", data=b"hello, world", content_type="image/png")
    assert answer.status_code == 415


def test_a_dry_run_under_an_id_of_ones_own_queues_nothing_either(http: FlaskClient) -> None:
    answer = http.put("/v1/jobs/box-1?dry_run=1", data=PICTURE, content_type="image/png")
    assert (answer.status_code, answer.get_json()["object"]) == (200, "quote")
    assert rows("SELECT count(*) FROM jobs") == [(0,)]


def test_a_dry_run_tells_the_wait_from_how_fast_images_were_read_lately(http: FlaskClient) -> None:
    submit(http, 3)
    read_all()
    submit(http, 2)
    quote = http.post("/v1/jobs?dry_run=1", data=PICTURE, content_type="image/png").get_json()
    assert quote["queue_seconds"] == 200.0  # 2 ahead, 3 read within 300 s


def all_pages(http: FlaskClient, limit: int) -> list[int]:
    ids: list[int] = []
    cursor: int | None = None
    while True:
        page = http.get("/v1/credits/entries", query_string={"limit": limit} | ({"after": cursor} if cursor else {}))
        ids += [entry["id"] for entry in page.get_json()["data"]]
        cursor = page.get_json()["next_cursor"]
        if cursor is None:
            return ids


def test_the_ledger_is_read_page_by_page_without_a_gap(http: FlaskClient) -> None:
    submit(http, 5)
    read_all()
    ids = all_pages(http, 3)
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 7  # a grant, a hold, five captures


def test_the_entries_of_one_job_say_what_paid_for_it(http: FlaskClient) -> None:
    submit(http, 1)
    job_id = submit(http, 1).get_json()["id"]
    read_all()
    capture, hold = http.get("/v1/credits/entries", query_string={"job_id": job_id}).get_json()["data"]
    assert (capture["kind"], capture["credits"], hold["kind"], hold["paid_by"]) == ("capture", 1, "hold", [])
    assert [share["credits"] for share in capture["paid_by"]] == [1]


@pytest.mark.parametrize("group_by", ["day", "model", "key"])
def test_usage_sums_to_what_left_the_balance(http: FlaskClient, group_by: str) -> None:
    submit(http, 3)
    submit(http, 2, priority="bulk")
    read_all()
    report = http.get("/v1/usage", query_string={"group_by": group_by}).get_json()
    assert [(row["images"], row["lines"], row["credits"]) for row in report["data"]] == [(5, 5, 4)]
    assert report["total"]["credits"] == 1000 - http.get("/v1/credits").get_json()["balance"]
    names = {"day": "SELECT now()::date::text", "model": "SELECT 'fake'", "key": "SELECT id FROM api_keys"}
    assert rows(names[group_by]) == [(report["data"][0]["group"],)]


def test_usage_comes_as_csv_too(http: FlaskClient) -> None:
    submit(http, 2, priority="bulk")
    read_all()
    answer = http.get("/v1/usage?group_by=model&format=csv")
    assert (answer.mimetype, answer.text) == ("text/csv", "model,images,lines,credits\r\nfake,2,2,1\r\n")


def test_usage_of_another_time_is_left_out(http: FlaskClient) -> None:
    submit(http)
    read_all()
    assert http.get("/v1/usage?to=2001-01-01T00:00:00Z").get_json()["data"] == []
    assert http.get("/v1/usage?from=2001-01-01T00:00:00Z").get_json()["total"]["lines"] == 1
    assert http.get("/v1/usage?from=yesterday").status_code == 400


def test_charges_are_exported_once_each_as_cloudevents(http: FlaskClient) -> None:
    submit(http, 3)
    read_all()
    first = http.get("/v1/usage/events?limit=2")
    rest = http.get(f"/v1/usage/events?after={first.get_json()[-1]['id']}").get_json()
    assert first.mimetype == "application/cloudevents-batch+json"
    events = first.get_json() + rest
    assert len({event["id"] for event in events}) == len(events) == 3
    assert {event["specversion"] for event in events} == {"1.0"}
    assert sum(event["data"]["credits"] for event in events) == 3


def test_nobody_sees_anothers_ledger_or_usage(http: FlaskClient) -> None:
    submit(http)
    read_all()
    headers = {"Authorization": f"Bearer {new_key('stranger')}"}
    entries = http.get("/v1/credits/entries", headers=headers).get_json()["data"]
    assert [entry["kind"] for entry in entries] == ["grant"]
    assert http.get("/v1/usage", headers=headers).get_json()["data"] == []
    assert http.get("/v1/usage/events", headers=headers).get_json() == []
