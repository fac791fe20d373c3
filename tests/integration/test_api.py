from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable
from typing import Any
from zipfile import ZipFile

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from werkzeug.test import TestResponse

from core import accounts, leases, outcomes
from core.claims import claim
from core.database import transaction
from core.errors import InvalidImage
from core.exclusive import Work, alone
from core.outcomes import Outcome
from core.settings import settings
from core.storage import image_store
from tests import image_samples
from tests.domain import MODEL, new_key, png, read, rows, schema_of
from tests.waiting import wait_until

PICTURE = png()


def submit(http: FlaskClient, data: bytes = PICTURE, **options: str) -> TestResponse:
    return http.post("/v1/jobs", data=data, content_type="image/png", query_string=options)


def submitted(http: FlaskClient) -> str:
    answer = submit(http)
    assert answer.status_code == 202, answer.text
    return str(answer.get_json()["id"])


def read_all() -> None:
    outcomes.finish([read(found) for found in claim("wrk_1", MODEL, most=1000)])


def error_of(answer: TestResponse) -> tuple[int, str]:
    error = answer.get_json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return answer.status_code, error["code"]


def test_a_raw_image_is_submitted_polled_and_read(http: FlaskClient) -> None:
    answer = submit(http)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{answer.get_json()['id']}"
    read_all()
    job = http.get(answer.headers["Location"]).get_json()
    assert (job["status"], job["text"]) == ("succeeded", "irlandais")
    assert job["usage"] == {"lines": 1, "credits": 1, "held": 0}
    assert job["images"][0]["lines"][0]["bbox"] == [0, 0, 40, 8]


def test_a_form_holds_many_images_whose_names_come_back(http: FlaskClient) -> None:
    files = [(io.BytesIO(PICTURE), f"page-{index}.png") for index in range(3)]
    answer = http.post("/v1/jobs", data={"image": files, "priority": "bulk", "metadata[box]": "12"})
    job = answer.get_json()
    assert [image["key"] for image in job["images"]] == ["page-0.png", "page-1.png", "page-2.png"]
    assert (job["priority"], job["metadata"]) == ("bulk", {"box": "12"})


@pytest.mark.parametrize(
    "source",
    [
        {"base64": base64.b64encode(PICTURE).decode()},
        {"url": "data:image/png;base64," + base64.b64encode(PICTURE).decode()},
    ],
)
def test_json_holds_images_as_base64_or_data_url(http: FlaskClient, source: dict[str, str]) -> None:
    answer = http.post("/v1/jobs", json={"images": [source | {"key": "a"}], "metadata": {"box": "12"}})
    assert answer.status_code == 202
    assert answer.get_json()["images"][0]["key"] == "a"


def test_the_three_forms_give_the_same_stored_bytes(http: FlaskClient) -> None:
    submit(http)
    http.post("/v1/jobs", data={"image": (io.BytesIO(PICTURE), "a.png")})
    http.post("/v1/jobs", json={"images": [{"base64": base64.b64encode(PICTURE).decode()}]})
    store = image_store(settings())
    ids = [f"images/{job}/{image}" for job, image in rows("SELECT job_id, id FROM images")]
    assert [store.get(key) for key in ids] == [PICTURE] * 3


BAD_IMAGES: list[tuple[str, Callable[[], bytes], int, str]] = [
    ("no image", lambda: b"hello, world", 415, "unsupported_image"),
    ("svg", image_samples.svg, 415, "unsupported_image"),
    ("zero bytes", lambda: b"", 422, "invalid_image"),
    ("huge header", lambda: image_samples.png_header(50_000, 50_000), 413, "image_too_large"),
    ("many pages", lambda: image_samples.multi_page([image_samples.ink_line()] * 3), 415, "unsupported_image"),
]


@pytest.mark.parametrize(("name", "data", "status", "code"), BAD_IMAGES, ids=[row[0] for row in BAD_IMAGES])
def test_a_bad_image_is_refused_and_leaves_nothing(
    http: FlaskClient, name: str, data: Callable[[], bytes], status: int, code: str
) -> None:
    del name
    began = time.monotonic()
    assert error_of(submit(http, data())) == (status, code)
    assert time.monotonic() - began < 1
    assert rows("SELECT count(*) FROM jobs") == [(0,)]
    assert rows("SELECT held_micro FROM accounts") == [(0,)]


BAD_REQUESTS: list[tuple[str, dict[str, object], int, str, str | None]] = [
    ("malformed JSON", {"data": "{", "content_type": "application/json"}, 400, "malformed_request", None),
    ("no images", {"json": {"images": []}}, 400, "malformed_request", "images"),
    ("unknown field", {"json": {"images": [{"base64": "YQ=="}], "lang": "fr"}}, 400, "malformed_request", "lang"),
    ("invalid base64", {"json": {"images": [{"base64": "%%%"}]}}, 400, "malformed_request", "images.0.base64"),
    ("two sources", {"json": {"images": [{"base64": "YQ==", "url": "x"}]}}, 400, "malformed_request", "images.0"),
    ("bad mode", {"json": {"images": [{"base64": "YQ=="}], "mode": "?"}}, 400, "malformed_request", "mode"),
    ("a page", {"json": {"images": [{"base64": "YQ=="}], "mode": "page"}}, 422, "mode_not_available", "mode"),
    ("private URL", {"json": {"images": [{"url": "http://10.0.0.1/a"}]}}, 422, "url_not_allowed", "images.0.url"),
    ("too many", {"json": {"images": [{"base64": "YQ=="}] * 1001}}, 422, "too_many_images", None),
    ("text", {"data": "hello", "content_type": "text/plain"}, 415, "unsupported_image", None),
    ("other field", {"data": {"file": (io.BytesIO(PICTURE), "a.png")}}, 400, "malformed_request", "file"),
    ("no file", {"data": {"mode": "line"}, "content_type": "multipart/form-data"}, 400, "malformed_request", "image"),
    ("NUL", {"json": {"images": [{"base64": "YQ==", "key": "a\0"}]}}, 400, "malformed_request", "images.0.key"),
    (
        "unknown model",
        {"json": {"images": [{"base64": base64.b64encode(PICTURE).decode()}], "model": "nobody/none"}},
        404,
        "model_not_found",
        "model",
    ),
]


@pytest.mark.parametrize(
    ("name", "sent", "status", "code", "param"), BAD_REQUESTS, ids=[row[0] for row in BAD_REQUESTS]
)
def test_a_bad_request_is_refused_by_name(
    http: FlaskClient, name: str, sent: dict[str, object], status: int, code: str, param: str | None
) -> None:
    del name
    answer = http.post("/v1/jobs", **sent)
    assert error_of(answer) == (status, code)
    assert answer.get_json()["error"]["param"] == param
    assert rows("SELECT count(*) FROM jobs") == [(0,)]


@pytest.mark.parametrize("part", ["form-data", 'form-data; name=""', 'form-data; filename="b.png"'])
def test_a_part_of_a_form_without_a_name_is_refused(http: FlaskClient, part: str) -> None:
    named = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + PICTURE
    nameless = f"\r\n--b\r\nContent-Disposition: {part}\r\n\r\n{{}}\r\n--b--\r\n".encode()
    answer = http.post("/v1/jobs", data=named + nameless, content_type="multipart/form-data; boundary=b")
    assert error_of(answer) == (400, "malformed_request")
    assert rows("SELECT count(*) FROM jobs") == [(0,)]


@pytest.mark.parametrize("option", ["priority=bulk", "metadata[parish]=Mur"])
@pytest.mark.parametrize("form", [True, False], ids=["form", "json"])
def test_options_beside_a_body_that_holds_them_are_refused(http: FlaskClient, form: bool, option: str) -> None:
    image = base64.b64encode(PICTURE).decode()
    body: dict[str, Any] = {"data": {"image": (io.BytesIO(PICTURE), "a.png")}} if form else {}
    answer = http.post(f"/v1/jobs?{option}", **(body or {"json": {"images": [{"base64": image}]}}))
    assert error_of(answer) == (400, "malformed_request")
    assert answer.get_json()["error"]["param"] == option.partition("=")[0]


@pytest.mark.parametrize("moment", ["0", "0.0", "1e9", "1764061200", "-5"])
def test_a_time_is_not_a_number(http: FlaskClient, moment: str) -> None:
    answer = http.get("/v1/jobs", query_string={"created_after": moment})
    assert error_of(answer) == (400, "malformed_request")
    assert "RFC 3339" in answer.get_json()["error"]["message"]


def test_a_body_over_the_limit_is_refused(http: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(http.application.config, "MAX_CONTENT_LENGTH", 1000)
    assert error_of(submit(http, PICTURE + bytes(1000))) == (413, "image_too_large")


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer ink_wrong", "Basic abc"])
def test_no_key_no_answer(application: FlaskClient, header: str) -> None:
    answer = application.get("/v1/jobs", headers={"Authorization": header} if header else {})
    assert error_of(answer) == (401, "invalid_api_key")


def test_a_revoked_key_stops_at_once(http: FlaskClient) -> None:
    job_id = submitted(http)
    (key_id,) = rows("SELECT id FROM api_keys")[0]
    with transaction() as connection:
        accounts.revoke_key(connection, str(key_id))
    assert error_of(http.get(f"/v1/jobs/{job_id}")) == (401, "invalid_api_key")


@pytest.mark.parametrize("job_id", ["job_unknown", "job_" + "0" * 26, "%00", "../jobs"])
def test_an_unknown_id_is_not_found(http: FlaskClient, job_id: str) -> None:
    assert error_of(http.get(f"/v1/jobs/{job_id}")) == (404, "not_found")


def test_another_accounts_job_is_not_found_by_any_verb(http: FlaskClient) -> None:
    job_id = submitted(http)
    stranger = {"Authorization": f"Bearer {new_key('stranger')}"}
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/transcript"),
        ("GET", "/images"),
    ]:
        answer = http.open(f"/v1/jobs/{job_id}{path}", method=method, headers=stranger)
        assert error_of(answer) == (404, "not_found")


def test_who_cannot_pay_is_told_what_is_missing(http: FlaskClient) -> None:
    rows("UPDATE accounts SET balance_micro = 0 RETURNING id")
    answer = submit(http)
    assert error_of(answer) == (402, "insufficient_credits")
    assert "1 needed, 0 available" in answer.get_json()["error"]["message"]


def test_images_of_who_cannot_pay_are_not_stored(http: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[str] = []
    monkeypatch.setattr("core.job_files.put_images", lambda job_id, _: stored.append(job_id))
    rows("UPDATE accounts SET balance_micro = 999999 RETURNING id")
    assert submit(http).status_code == 402
    assert stored == []
    rows("UPDATE accounts SET balance_micro = 1000000 RETURNING id")
    assert (submit(http).status_code, len(stored)) == (202, 1)


def test_a_wait_ends_when_the_job_does(http: FlaskClient) -> None:
    job_id = submitted(http)
    reading = threading.Timer(0.3, read_all)
    reading.start()
    began = time.monotonic()
    job = http.get(f"/v1/jobs/{job_id}?wait=20").get_json()
    reading.join()
    assert job["status"] == "succeeded"
    assert time.monotonic() - began < 3


def test_a_wait_that_is_over_answers_the_job_as_it_is(http: FlaskClient) -> None:
    job_id = submitted(http)
    answer = http.get(f"/v1/jobs/{job_id}?wait=0.2")
    assert answer.get_json()["status"] == "queued"
    assert answer.headers["Retry-After"] == "1"


def test_a_body_that_ends_early_is_no_job(http: FlaskClient) -> None:
    answer = http.post(
        "/v1/jobs",
        input_stream=io.BytesIO(PICTURE),
        content_type="image/png",
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(PICTURE) + 2)},
    )
    assert error_of(answer) == (400, "malformed_request")
    assert rows("SELECT count(*) FROM jobs") == [(0,)]


def test_a_submission_with_a_bad_option_fetches_nothing(http: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.remote_images.fetch_image", lambda *_: pytest.fail("it was fetched"))
    answer = http.post("/v1/jobs", json={"images": [{"url": "http://example.org/a.png"}], "mode": "page"})
    assert error_of(answer) == (422, "mode_not_available")


def test_metadata_in_two_spellings_is_refused(http: FlaskClient) -> None:
    file = (io.BytesIO(PICTURE), "a.png")
    answer = http.post("/v1/jobs", data={"image": file, "metadata": "{}", "metadata[a]": "1"})
    assert error_of(answer) == (400, "malformed_request")


@pytest.mark.parametrize("path", ["/images?after=99999999999999999999", "/images?after=-2", "?wait=61", "?wait=abc"])
def test_a_number_out_of_range_is_a_malformed_request(http: FlaskClient, path: str) -> None:
    assert error_of(http.get(f"/v1/jobs/{submitted(http)}{path}")) == (400, "malformed_request")


def test_a_deeply_nested_metadata_field_is_malformed(http: FlaskClient) -> None:
    file = (io.BytesIO(PICTURE), "a.png")
    answer = http.post("/v1/jobs", data={"image": file, "metadata": "[" * 100_000})
    assert error_of(answer) == (400, "malformed_request")


def test_a_weak_etag_waits_as_a_strong_one_does(http: FlaskClient) -> None:
    job_id = submitted(http)
    began = time.monotonic()
    answer = http.get(f"/v1/jobs/{job_id}?wait=0.3", headers={"If-None-Match": 'W/"1"'})
    assert (answer.status_code, time.monotonic() - began >= 0.3) == (304, True)


def test_every_path_describes_its_errors(application: FlaskClient) -> None:
    for path in application.get("/openapi.json").get_json()["paths"].values():
        for operation in path.values():
            assert {"400", "401", "404", "500", "503"} <= set(operation["responses"])
            body = operation["responses"]["400"]["content"]["application/json"]["schema"]
            assert body == {"$ref": "#/components/schemas/ErrorBody"}


def test_an_unchanged_job_is_not_sent_again(http: FlaskClient) -> None:
    job_id = submitted(http)
    tag = http.get(f"/v1/jobs/{job_id}").headers["ETag"]
    assert http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag}).status_code == 304
    read_all()
    assert http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag}).status_code == 200


def test_more_waits_than_an_account_may_have_are_answered_at_once(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.waiting.settings", lambda: settings().model_copy(update={"max_waiting_per_account": 0}))
    began = time.monotonic()
    http.get(f"/v1/jobs/{submitted(http)}?wait=20")
    assert time.monotonic() - began < 3


def test_jobs_are_listed_page_by_page(http: FlaskClient) -> None:
    made = [submitted(http) for _ in range(3)]
    first = http.get("/v1/jobs?limit=2").get_json()
    rest = http.get(f"/v1/jobs?limit=2&after={first['next_cursor']}").get_json()
    assert [job["id"] for job in first["data"] + rest["data"]] == made[::-1]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


def test_a_failed_job_says_why_in_the_list_too(http: FlaskClient) -> None:
    submit(http)
    taken = claim("wrk_1", MODEL, most=1)[0]
    error = InvalidImage("truncated")
    outcomes.finish([Outcome(image_id=taken.image_id, job_id=taken.job_id, attempt=taken.attempt, error=error)])
    assert http.get("/v1/jobs").get_json()["data"][0]["error"] == {"code": "invalid_image", "message": "truncated"}


def test_images_are_listed_page_by_page(http: FlaskClient) -> None:
    files = [(io.BytesIO(PICTURE), f"{index}.png") for index in range(3)]
    job_id = http.post("/v1/jobs", data={"image": files}).get_json()["id"]
    first = http.get(f"/v1/jobs/{job_id}/images?limit=2").get_json()
    rest = http.get(f"/v1/jobs/{job_id}/images?limit=2&after={first['next_cursor']}").get_json()
    assert [image["index"] for image in first["data"] + rest["data"]] == [0, 1, 2]


def test_a_canceled_job_says_so_once(http: FlaskClient) -> None:
    job_id = submitted(http)
    assert http.post(f"/v1/jobs/{job_id}/cancel").get_json()["status"] == "canceled"
    assert error_of(http.post(f"/v1/jobs/{job_id}/cancel")) == (409, "already_finished")


def test_a_deleted_job_is_gone(http: FlaskClient) -> None:
    job_id = submitted(http)
    assert http.delete(f"/v1/jobs/{job_id}").get_json() == {"id": job_id, "object": "job", "deleted": True}
    assert error_of(http.get(f"/v1/jobs/{job_id}")) == (410, "gone")
    assert http.get("/v1/jobs").get_json()["data"] == []


def test_a_transcript_is_text_or_json(http: FlaskClient) -> None:
    job_id = submitted(http)
    read_all()
    answer = http.get(f"/v1/jobs/{job_id}/transcript?format=txt")
    assert (answer.text, answer.mimetype) == ("irlandais\n", "text/plain")
    images = http.get(f"/v1/jobs/{job_id}/transcript?format=json").get_json()["data"]
    assert images[0]["lines"][0]["text"] == "irlandais"


@pytest.mark.parametrize(
    ("form", "mimetype"),
    [
        ("alto", "application/xml"),
        ("page", "application/xml"),
        ("hocr", "text/html"),
        ("tsv", "text/tab-separated-values"),
    ],
)
def test_a_transcript_comes_in_the_forms_of_archives(http: FlaskClient, form: str, mimetype: str) -> None:
    job_id = http.post("/v1/jobs", data={"image": (io.BytesIO(PICTURE), "p 12.png")}).get_json()["id"]
    unread = http.get(f"/v1/jobs/{job_id}/transcript?format={form}")
    assert unread.mimetype == mimetype
    assert "irlandais" not in unread.text
    read_all()
    answer = http.get(f"/v1/jobs/{job_id}/transcript?format={form}")
    assert answer.mimetype == mimetype
    assert "irlandais" in answer.text
    assert "p 12.png" in answer.text


@pytest.mark.parametrize("form", ["alto", "page"])
def test_documents_of_several_images_come_in_an_archive(http: FlaskClient, form: str) -> None:
    files = [(io.BytesIO(PICTURE), f"p {index}.png") for index in range(3)]
    job_id = http.post("/v1/jobs", data={"image": files}).get_json()["id"]
    read_all()
    answer = http.get(f"/v1/jobs/{job_id}/transcript?format={form}")
    assert (answer.status_code, answer.mimetype) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{job_id}.{form}.zip"'
    with ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.namelist() == ["0000-p_0.xml", "0001-p_1.xml", "0002-p_2.xml"]
        assert all(b"irlandais" in archive.read(name) for name in archive.namelist())


def test_the_transcript_of_a_job_that_is_gone_is_none(http: FlaskClient) -> None:
    job_id = submitted(http)
    http.delete(f"/v1/jobs/{job_id}")
    assert error_of(http.get(f"/v1/jobs/{job_id}/transcript?format=alto")) == (410, "gone")
    assert error_of(http.get(f"/v1/jobs/{job_id}/transcript?format=docx")) == (400, "malformed_request")


def test_the_models_of_running_workers_are_listed(http: FlaskClient) -> None:
    card = {"name": "a/b", "revision": None, "sha256": "0" * 64, "device": "cpu", "dtype": "float32", "parameters": 1}
    leases.register([card])
    assert [model["id"] for model in http.get("/v1/models").get_json()["data"] if model["loaded"]] == ["a/b"]
    assert http.get("/v1/models/a/b").get_json()["sha256"] == "0" * 64
    assert error_of(http.get("/v1/models/none")) == (404, "model_not_found")


def test_credits_are_numbers_of_credits(http: FlaskClient) -> None:
    submit(http)
    assert http.get("/v1/credits").get_json() == {"object": "credits", "balance": 1000, "held": 1, "available": 999}


def test_every_answer_has_a_request_id(http: FlaskClient) -> None:
    assert http.get("/v1/jobs").headers["X-Request-Id"].startswith("req_")
    assert http.get("/nowhere", headers={"X-Request-Id": "mine"}).headers["X-Request-Id"] == "mine"


def test_methods_that_callers_make_up_begin_no_figures(application: FlaskClient) -> None:
    for method in ("BREW", "PROPFIND"):
        assert application.open("/livez", method=method).status_code == 405
    told = [family for family in REGISTRY.collect() if family.name in ("inkqueue_requests", "inkqueue_request_seconds")]
    methods = {sample.labels["method"] for family in told for sample in family.samples}
    assert "_OTHER" in methods
    assert not {"BREW", "PROPFIND"} & methods


def test_readiness_names_what_is_down(application: FlaskClient) -> None:
    assert application.get("/readyz").get_json() == {"status": "ready", "degraded": ["worker", "courier", "clerk"]}
    leases.register([])
    with transaction() as connection:
        leases.note_sweep(connection)
    with alone(Work.BATCHES, threading.Event()):
        assert application.get("/readyz").get_json()["degraded"] == []
    wait_until(lambda: application.get("/readyz").get_json()["degraded"] == ["clerk"])


def test_the_service_is_not_ready_without_its_database(
    application: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import create_engine

    nowhere = create_engine("postgresql+psycopg://nobody@/postgres?host=/nonexistent")
    monkeypatch.setattr("core.database.engine", lambda: nowhere)
    answer = application.get("/readyz")
    assert error_of(answer) == (503, "unavailable")
    assert answer.headers["Retry-After"]
    assert application.get("/livez").status_code == 200


def test_the_service_is_not_ready_before_its_migration(application: FlaskClient) -> None:
    with schema_of("0001"):
        assert error_of(application.get("/readyz")) == (503, "unavailable")
    with schema_of("9999"):
        assert application.get("/readyz").status_code == 200, "a newer version migrates while this one serves"


def test_the_description_names_every_path_and_all_three_forms(application: FlaskClient) -> None:
    description = application.get("/openapi.json").get_json()
    assert description["openapi"] == "3.1.0"
    assert {"/v1/jobs", "/v1/jobs/{job_id}", "/v1/models", "/v1/credits", "/livez"} <= set(description["paths"])
    forms = description["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(forms) == {"application/json", "multipart/form-data", "image/*"}


def test_a_submission_that_prefers_to_wait_answers_the_ended_job(http: FlaskClient) -> None:
    reading = threading.Timer(0.3, read_all)
    reading.start()
    answer = http.post("/v1/jobs", data=PICTURE, content_type="image/png", headers={"Prefer": "wait=20"})
    reading.join()
    assert (answer.status_code, answer.get_json()["status"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=20"


def test_a_submission_whose_wait_is_over_is_accepted(http: FlaskClient) -> None:
    answer = http.post("/v1/jobs", data=PICTURE, content_type="image/png", headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=0")


def test_jobs_are_listed_by_state_time_and_metadata(http: FlaskClient) -> None:
    boxed = http.post("/v1/jobs", data={"image": (io.BytesIO(PICTURE), "a.png"), "metadata[box]": "12"}).get_json()
    read_all()
    other = submitted(http)

    def found(**query: object) -> list[str]:
        return [job["id"] for job in http.get("/v1/jobs", query_string=query).get_json()["data"]]

    assert found(status="succeeded") == [boxed["id"]]
    assert found(status=["succeeded", "queued"]) == [other, boxed["id"]]
    assert found(**{"metadata[box]": "12"}) == [boxed["id"]]
    assert found(**{"metadata[box]": "13"}) == []
    assert found(created_before=boxed["created_at"]) == []
    assert found(created_after=boxed["created_at"]) == [other, boxed["id"]]


@pytest.mark.parametrize("query", ["status=lost", "created_after=yesterday", "created_after=2026-01-01", "color=red"])
def test_a_filter_that_cannot_be_understood_is_refused(http: FlaskClient, query: str) -> None:
    assert error_of(http.get(f"/v1/jobs?{query}")) == (400, "malformed_request")


def test_a_job_is_retried_over_http(http: FlaskClient) -> None:
    job_id = submitted(http)
    assert error_of(http.post(f"/v1/jobs/{job_id}/retry")) == (409, "not_finished")
    http.post(f"/v1/jobs/{job_id}/cancel")
    answer = http.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.get_json()["retry_of"]) == (202, job_id)
    assert answer.headers["Location"] == f"/v1/jobs/{answer.get_json()['id']}"


def test_a_retry_for_a_model_that_nobody_serves_any_more_is_refused_and_holds_nothing(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_id = leases.register([{"name": "microsoft/trocr-base-printed"}])
    job_id = submit(http, model="trocr-base-printed").get_json()["id"]
    http.post(f"/v1/jobs/{job_id}/cancel")
    leases.resign(worker_id)
    fetched: list[object] = []

    def fetch(*image: str) -> bytes:
        fetched.append(image)
        return PICTURE

    monkeypatch.setattr("core.job_files.get_image", fetch)
    assert error_of(http.post(f"/v1/jobs/{job_id}/retry")) == (404, "model_not_loaded")
    assert (fetched, rows("SELECT id FROM jobs")) == ([], [(job_id,)])
    assert rows("SELECT held_micro FROM accounts") == [(0,)]


def test_a_deadline_is_told_with_the_job(http: FlaskClient) -> None:
    job = submit(http, deadline_s="60").get_json()
    assert job["deadline_at"] > job["created_at"]
    assert error_of(submit(http, deadline_s="0")) == (400, "malformed_request")


def test_a_retry_that_is_sent_again_under_its_key_is_one_job(http: FlaskClient) -> None:
    canceled = [submitted(http) for _ in range(2)]
    for job_id in canceled:
        http.post(f"/v1/jobs/{job_id}/cancel")
    key = {"Idempotency-Key": "again"}
    first, second = (http.post(f"/v1/jobs/{canceled[0]}/retry", headers=key) for _ in range(2))
    assert first.get_json()["id"] == second.get_json()["id"]
    assert second.headers["Idempotent-Replayed"] == "true"
    other = http.post(f"/v1/jobs/{canceled[1]}/retry", headers=key)
    assert error_of(other) == (422, "idempotency_conflict")
