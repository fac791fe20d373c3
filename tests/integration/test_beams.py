"""Beams as an option of a job: taken in every form, priced, carried to the model, charged."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from core import claims, jobs, leases, outcomes
from tests.domain import MODEL, assert_ledger_balances, new_caller, png, read, retry, rows, submit_lines
from tests.fakes import FakeRecognizer
from tests.real_lines import real_lines
from tests.trocr_models import BUNDLED, generated
from tests.waiting import wait_until
from tests.workers import FakeDecoder, worker_of
from worker.recognizer import LinePixels
from worker.trocr import TrocrRecognizer, load_trocr

PICTURE = png()
#: With one beam the bundled model reads it otherwise.
LINE = Path(__file__).parent.parent / "data" / "copiste_imp_wikitexte_0085_003.webp"


def as_form(http: FlaskClient, path: str = "/v1/jobs", **options: Any) -> TestResponse:
    return http.post(path, data={"image": (io.BytesIO(PICTURE), "a.png"), **options})


def as_json(http: FlaskClient, path: str = "/v1/jobs", **options: Any) -> TestResponse:
    return http.post(path, json={"images": [{"base64": base64.b64encode(PICTURE).decode()}], **options})


def as_raw_body(http: FlaskClient, path: str = "/v1/jobs", **options: Any) -> TestResponse:
    return http.post(path, data=PICTURE, content_type="image/png", query_string=options)


def under_an_own_id(http: FlaskClient, path: str = "/v1/jobs", **options: Any) -> TestResponse:
    return http.put(f"{path}/box-12", data=PICTURE, content_type="image/png", query_string=options)


Form = Callable[..., TestResponse]
FORMS = pytest.mark.parametrize("submit", [as_form, as_json, as_raw_body, under_an_own_id])


def refusal(answer: TestResponse) -> tuple[int, str, str]:
    error = answer.get_json()["error"]
    return answer.status_code, error["code"], error["param"]


def read_all() -> None:
    outcomes.finish([read(found) for found in claims.claim("wrk_1", MODEL, most=1000)])


@FORMS
def test_a_line_with_five_beams_is_held_charged_and_billed_threefold(http: FlaskClient, submit: Form) -> None:
    job = submit(http, beams=5).get_json()
    assert (job["beams"], job["usage"]) == (5, {"lines": 0, "credits": 0, "held": 3})  # 1 + 4 x 0.5
    read_all()
    bill = http.get(f"/v1/jobs/{job['id']}/receipt").get_json()
    assert (bill["beams"], bill["credits_per_line"]) == (5, 3)
    assert [(entry["kind"], entry["credits"]) for entry in bill["entries"]] == [("hold", 3), ("capture", 3)]
    assert bill["usage"] == {"lines": 1, "credits": 3, "held": 0}
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(997_000_000, 0)]
    assert_ledger_balances()


@pytest.mark.parametrize(("priority", "credits"), [("interactive", 4.5), ("normal", 3), ("bulk", 1.5)])
def test_beams_raise_the_price_of_every_priority_alike(http: FlaskClient, priority: str, credits: float) -> None:
    job_id = as_form(http, beams=5, priority=priority).get_json()["id"]
    read_all()
    assert http.get(f"/v1/jobs/{job_id}").get_json()["usage"] == {"lines": 1, "credits": credits, "held": 0}


@FORMS
def test_other_numbers_of_beams_are_refused_by_name(http: FlaskClient, submit: Form) -> None:
    assert [refusal(submit(http, beams=beams)) for beams in (0, 11)] == [(400, "malformed_request", "beams")] * 2
    assert rows("SELECT count(*) FROM jobs") == [(0,)]


def test_a_job_that_asks_for_nothing_is_read_greedily(http: FlaskClient) -> None:
    assert as_form(http).get_json()["beams"] == 1
    assert http.get("/v1/jobs").get_json()["data"][0]["beams"] == 1


def test_a_dry_run_tells_what_beams_cost_and_what_they_would_be_charged(http: FlaskClient) -> None:
    quote = as_form(http, "/v1/jobs?dry_run=1", beams=4).get_json()
    assert (quote["credits_per_line"], quote["credits"], quote["held"]) == (2.5, 2.5, 2.5)  # 1 + 3 x 0.5
    job_id = as_form(http, beams=4).get_json()["id"]
    read_all()
    assert http.get(f"/v1/jobs/{job_id}").get_json()["usage"]["credits"] == quote["credits"]


def test_the_price_list_tells_what_a_beam_costs(http: FlaskClient) -> None:
    assert http.get("/v1/pricing").get_json()["extra_beam"] == 0.5


def test_what_beams_cost_must_be_there(http: FlaskClient) -> None:
    new_caller(grant_credits=2)
    assert as_form(http).status_code == 202
    assert as_form(http, beams=2).status_code == 402  # 1.5, and 1 is left


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs?dry_run=1"])
def test_a_model_that_cannot_follow_beams_does_not_charge_for_them(http: FlaskClient, path: str) -> None:
    leases.register([{"name": "ppocr-v6"}])
    refused = as_form(http, path, model="ppocr-v6", beams=2)
    assert refusal(refused) == (422, "beams_not_available", "beams")
    assert rows("SELECT count(*) FROM jobs") == [(0,)]
    assert as_form(http, path, model="ppocr-v6", beams=1).status_code in (200, 202)


def test_the_models_tell_how_many_beams_they_take(http: FlaskClient) -> None:
    leases.register([{"name": "./a-hand-of-ones-own"}])
    models = {model["id"]: model["max_beams"] for model in http.get("/v1/models").get_json()["data"]}
    assert (models["ppocr-v6"], models["trocr-tiny"], models["./a-hand-of-ones-own"]) == (1, 10, 10)


@FORMS
def test_other_beams_are_another_submission(http: FlaskClient, submit: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    # its client is every test's
    monkeypatch.setitem(http.environ_base, "HTTP_IDEMPOTENCY_KEY", "8a1f")
    first, same = submit(http, beams=2).get_json(), submit(http, beams=2).get_json()
    assert first["id"] == same["id"]
    assert submit(http, beams=3).get_json()["error"]["code"] == "idempotency_conflict"
    assert rows("SELECT held_micro FROM accounts") == [(1_500_000,)]


def test_a_claim_tells_the_beams() -> None:
    submit_lines(new_caller(), beams=5)
    assert [claim.options.beams for claim in claims.claim("wrk_1", MODEL, most=1)] == [5]


def test_a_retry_keeps_the_beams_and_their_price() -> None:
    caller = new_caller()
    job_id = submit_lines(caller, beams=5)
    jobs.cancel(caller, job_id)
    again = retry(caller, job_id)
    assert [claim.options.beams for claim in claims.claim("wrk_1", MODEL, most=2)] == [5]
    assert rows("SELECT beams, held_micro FROM jobs WHERE id = :id", id=again) == [(5, 3_000_000)]


def test_each_beam_takes_a_row_of_the_model() -> None:
    caller = new_caller()
    for beams in (5, 1):
        submit_lines(caller, beams=beams)
    recognizer = FakeRecognizer(rows=8)
    with worker_of(recognizer) as transcription:
        transcription.pumps.pump()
        wait_until(lambda: rows("SELECT DISTINCT status FROM jobs") == [("succeeded",)])
    assert sorted(recognizer.beams.values()) == [1, 5]


def test_a_job_with_five_beams_reads_what_transformers_reads_with_five() -> None:
    recognizer = load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", rows=8)
    pixels, expected = _line_that_beams_read_otherwise(recognizer)
    submit_lines(new_caller(), beams=5, data=LINE.read_bytes())
    with worker_of(recognizer, FakeDecoder(pixels=pixels)) as transcription:
        transcription.pumps.pump()
        wait_until(lambda: rows("SELECT DISTINCT status FROM images") == [("succeeded",)], timeout_s=60)
    assert rows("SELECT text FROM lines") == [(expected,)]
    assert rows("SELECT balance_micro FROM accounts") == [(997_000_000,)]


def _line_that_beams_read_otherwise(recognizer: TrocrRecognizer) -> tuple[LinePixels, str]:
    """A real line whose text is another with five beams than greedily, and that text."""
    for pixels in real_lines().values():
        greedy, text = (_text_by_transformers(recognizer, pixels, beams) for beams in (1, 5))
        if text != greedy:
            return pixels, text
    raise AssertionError("beams change no line")


def _text_by_transformers(recognizer: TrocrRecognizer, pixels: LinePixels, beams: int) -> str:
    tokens = generated(recognizer, {"line": pixels}, 110, beams=beams)["line"].tokens
    return str(recognizer.checkpoint.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()
