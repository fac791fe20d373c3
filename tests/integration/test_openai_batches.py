"""`client.batches` of OpenAI's SDK, with a worker and a clerk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import openai
import pytest
from sqlalchemy import update

from api import batch_submission, batch_work
from api.batch_results import write_results
from api.batch_rounds import Clerk
from core import batch_requests, batches
from core.batch_tables import BatchRow
from core.database import transaction
from tests.domain import assert_ledger_balances, new_caller, new_key, png, rows
from tests.fakes import FakeRecognizer
from tests.openai_batches import LINE, Killed, chat, counts, create, ended, response, results, upload, working
from tests.openai_clients import client_of, data_url
from tests.receiver import receiving
from tests.waiting import wait_until
from tests.workers import Brake, pumped, worker_of

NOT_AN_IMAGE = data_url(b"hello, world")


@contextmanager
def clerk_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", "api.clerk"], env=os.environ | {"PYTHONPATH": "."}) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture
def service() -> Iterator[None]:
    with worker_of(FakeRecognizer(rows=16)) as transcription, pumped(transcription), working():
        yield


@pytest.mark.usefixtures("service")
def test_a_batch_is_read_at_the_price_of_bulk_and_what_is_bad_in_it_told_apart(client: openai.OpenAI) -> None:
    requests = [chat(f"line-{n}") for n in range(100)]
    requests[7] = chat("line-7", NOT_AN_IMAGE)
    requests[8] = chat("line-8", "http://127.0.0.1/line.png")
    requests[9] = chat("line-9", n=3)
    requests[10] = chat("line-10", LINE, LINE, LINE)
    requests[11] = chat("line-11") | {"body": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}}
    requests[12] = chat("line-12", stream=True)
    batch = create(client, *requests)
    assert (batch.status, batch.metadata) == ("validating", {"box": "12"})
    batch = ended(client, batch)
    assert batch.status == "completed"
    assert counts(batch) == (100, 95, 5)
    answers, errors = results(client, batch.output_file_id), results(client, batch.error_file_id)
    assert answers.keys() | errors.keys() == {f"line-{n}" for n in range(100)}
    first = answers["line-0"]["response"]
    assert first["status_code"] == 200
    assert first["body"]["choices"][0]["message"]["content"].startswith("text of img_")
    assert first["body"]["usage"]["ocr"] == {"lines": 1, "credits": 0.5}
    assert answers["line-10"]["response"]["body"]["choices"][0]["message"]["content"].count("\n") == 2
    assert {
        key: (line["response"]["status_code"], line["response"]["body"]["error"]["code"])
        for key, line in errors.items()
    } == {
        "line-7": (415, "unsupported_image"),
        "line-8": (422, "url_not_allowed"),
        "line-9": (400, "malformed_request"),
        "line-11": (404, "model_not_found"),
        "line-12": (400, "malformed_request"),
    }
    texts = [answers[key]["response"]["body"]["choices"][0]["message"]["content"] for key in answers]
    assert len(set(texts)) == 95
    assert rows("SELECT DISTINCT priority FROM jobs") == [(2,)]
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(951_500_000, 0)]
    assert_ledger_balances()


@pytest.mark.usefixtures("service")
def test_requests_for_responses_are_read_from_uploads_too(client: openai.OpenAI) -> None:
    image = client.files.create(file=("line.png", png()), purpose="vision").id
    batch = ended(client, create(client, response("a"), response("b", file_id=image), endpoint="/v1/responses"))
    answers = results(client, batch.output_file_id)
    assert {key: answers[key]["response"]["body"]["status"] for key in answers} == {"a": "completed", "b": "completed"}
    assert batch.error_file_id is None


@pytest.mark.usefixtures("service")
def test_short_requests_for_large_images_are_taken_a_few_at_a_time(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = png() + bytes(10_000)
    image = client.files.create(file=("line.png", large), purpose="vision").id
    monkeypatch.setattr(batch_submission, "SLICE_BYTES", 20_000)
    requests = [response(f"line-{n}", file_id=image) for n in range(24)]
    batch = ended(client, create(client, *requests, endpoint="/v1/responses"))
    assert counts(batch) == (24, 24, 0)
    assert rows("SELECT images_total FROM jobs") == [(8,)] * 3


@pytest.mark.usefixtures("service")
def test_requests_of_many_images_are_taken_one_at_a_time(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_submission, "SLICE_BYTES", 1)
    batch = ended(client, create(client, chat("a", *[LINE] * 9), chat("b", *[LINE] * 5), *map(chat, "cdef")))
    assert counts(batch) == (6, 6, 0)
    assert rows("SELECT images_total FROM jobs ORDER BY id") == [(9,), (8,), (1,)]


@pytest.mark.usefixtures("service")
def test_a_file_that_is_no_batch_fails_with_the_numbers_of_its_lines(client: openai.OpenAI) -> None:
    batch = create(
        client,
        chat("a"),
        "",
        "{not json",
        chat("a"),
        response("b"),
        chat("c") | {"method": "GET"},
        {"custom_id": "d", "method": "POST", "url": "/v1/chat/completions"},
    )
    batch = ended(client, batch)
    assert batch.status == "failed"
    assert batch.errors is not None and batch.errors.data is not None
    assert [(error.line, error.code, error.param) for error in batch.errors.data] == [
        (3, "invalid_json_line", None),
        (4, "duplicate_custom_id", "custom_id"),
        (5, "mismatched_url", "url"),
        (6, "invalid_request", "method"),
        (7, "invalid_request", "body"),
    ]
    assert rows("SELECT id FROM jobs") == []


@pytest.mark.usefixtures("service")
def test_what_postgres_cannot_store_fails_its_line_and_holds_nothing_up(client: openai.OpenAI) -> None:
    batch = ended(client, create(client, chat("a", model="none\0"), chat("b", **{"x\0": 1}), chat("c")))
    assert (batch.status, counts(batch)) == ("completed", (3, 1, 2))
    errors = results(client, batch.error_file_id)
    assert {key: line["response"]["status_code"] for key, line in errors.items()} == {"a": 404, "b": 400}
    batch = ended(client, create(client, chat("a\0"), chat("b") | {"x\0": 1}, chat("c") | {"x" * 1_000_000: 1}))
    assert batch.errors is not None and batch.errors.data is not None
    assert [(error.line, error.param) for error in batch.errors.data][:2] == [
        (1, "custom_id"),
        (2, "x\N{REPLACEMENT CHARACTER}"),
    ]
    assert len(batch.errors.data[2].to_json()) < 5000


@pytest.mark.usefixtures("service")
def test_an_empty_file_is_no_batch(client: openai.OpenAI) -> None:
    batch = ended(client, create(client, "", " "))
    assert batch.errors is not None and batch.errors.data is not None
    assert (batch.status, batch.errors.data[0].code) == ("failed", "empty_file")


def test_a_batch_of_a_file_that_was_uploaded_for_something_else_is_refused(client: openai.OpenAI) -> None:
    image = client.files.create(file=("line.png", png()), purpose="vision").id
    with pytest.raises(openai.BadRequestError, match="vision"):
        client.batches.create(input_file_id=image, endpoint="/v1/chat/completions", completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        client.batches.create(
            input_file_id="file_01jd4000000000000000000000", endpoint="/v1/responses", completion_window="24h"
        )
    with pytest.raises(openai.BadRequestError, match="endpoint"):
        client.batches.create(input_file_id=image, endpoint="/v1/embeddings", completion_window="24h")


def test_batches_are_listed_and_those_of_others_are_not_there(client: openai.OpenAI, address: str) -> None:
    ids = [create(client, chat("a")).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)] == ids[::-1]
    with client_of(address, new_key("other")) as other:
        assert list(other.batches.list()) == []
        for look in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                look(ids[0])


@pytest.fixture
def brake() -> Iterator[Brake]:
    brake = Brake()
    with worker_of(FakeRecognizer(rows=4, on_step=brake, steps=1)) as transcription, pumped(transcription), working():
        yield brake
        brake.allow(100_000)


def test_a_batch_is_cancelled_and_what_was_read_is_kept(client: openai.OpenAI, brake: Brake) -> None:
    # Of different models of reading, so that each is a job of its own.
    batch = create(client, *[chat(f"line-{n}", max_tokens=n + 1) for n in range(20)])
    brake.allow(1)
    wait_until(lambda: counts(client.batches.retrieve(batch.id))[1] > 0)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    assert client.batches.cancel(batch.id).status == "cancelled"
    answers, errors = results(client, batch.output_file_id), results(client, batch.error_file_id)
    assert answers and errors
    assert answers.keys() | errors.keys() == {f"line-{n}" for n in range(20)}
    assert counts(batch) == (20, len(answers), len(errors))
    assert {line["error"]["code"] for line in errors.values()} == {"batch_cancelled"}
    assert rows("SELECT held_micro FROM accounts") == [(0,)]
    assert_ledger_balances()


def test_a_batch_whose_file_is_deleted_is_cancelled(
    client: openai.OpenAI, brake: Brake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_work, "_MOST_OPEN", 1)
    batch = create(client, *[chat(f"line-{n}") for n in range(100)])
    wait_until(lambda: rows("SELECT count(*) FROM batch_requests") == [(64,)])
    client.files.delete(batch.input_file_id)
    brake.allow(10_000)
    batch = ended(client, batch)
    assert (batch.status, counts(batch)) == ("cancelled", (100, 64, 0))
    assert_ledger_balances()


def test_a_batch_expires_when_its_window_ends(client: openai.OpenAI, brake: Brake) -> None:
    batch = create(client, *[chat(f"line-{n}", max_tokens=n + 1) for n in range(20)])
    brake.allow(1)
    wait_until(lambda: counts(client.batches.retrieve(batch.id))[1] > 0)
    with transaction() as connection:
        connection.execute(update(BatchRow).values(expires_at=BatchRow.expires_at - timedelta(hours=25)))
    batch = ended(client, batch)
    assert batch.status == "expired"
    errors = results(client, batch.error_file_id)
    assert {line["error"]["code"] for line in errors.values()} == {"batch_expired"}
    assert len(errors) + len(results(client, batch.output_file_id)) == 20
    assert_ledger_balances()


def test_what_was_written_of_a_batch_that_was_given_up_meanwhile_is_not_kept_twice(client: openai.OpenAI) -> None:
    batch = create(client, chat("a"), chat("b"))
    Clerk().work_once(threading.Event())
    with transaction() as connection:
        (seen,) = batches.open_batches(connection)
    client.batches.cancel(batch.id)
    write_results(seen, batches.BatchStatus.EXPIRED, last_try=False)
    assert client.batches.retrieve(batch.id).status == "cancelling"
    assert list(client.files.list(purpose="batch_output")) == []
    Clerk().work_once(threading.Event())
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, counts(batch)) == ("cancelled", (2, 0, 2))
    assert [file.id for file in client.files.list(purpose="batch_output")] == [batch.error_file_id]


@pytest.mark.usefixtures("service")
def test_a_batch_that_cannot_be_paid_for_is_read_as_far_as_the_credits_go(address: str) -> None:
    new_caller("poor", grant_credits=5)
    with client_of(address, new_key("poor")) as client:
        batch = ended(client, create(client, *[chat(f"line-{n}") for n in range(16)]))
        errors = results(client, batch.error_file_id)
        assert counts(batch) == (16, 10, 6)
        assert {line["response"]["body"]["error"]["code"] for line in errors.values()} == {"insufficient_quota"}
    assert rows("SELECT balance_micro, held_micro FROM accounts") == [(0, 0)]


@pytest.mark.usefixtures("service")
def test_a_batch_whose_key_was_revoked_reads_nothing_more(address: str) -> None:
    with client_of(address, new_key()) as client, client_of(address, new_key()) as other:
        batch = create(client, chat("a"))
        other.delete("/keys/" + str(rows("SELECT key_id FROM batches")[0][0]), cast_to=object)
        batch = ended(other, batch)
        assert counts(batch) in ((1, 0, 1), (1, 1, 0))  # the clerk may have been faster


def test_a_clerk_that_dies_anywhere_loses_no_request_and_submits_none_twice(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = create(client, *[chat(f"line-{n}", max_tokens=n % 5 + 1) for n in range(150)])
    whole = batches.advance
    deaths = iter([False, True, True, False, True])

    def dying(*args: Any, **more: Any) -> None:
        if next(deaths, False):
            raise Killed
        whole(*args, **more)

    monkeypatch.setattr(batches, "advance", dying)
    original = batch_requests.record_submitted
    submissions = iter(range(1, 100))

    def cut_short(*args: Any) -> None:
        original(*args)
        if next(submissions) % 4 == 0:
            raise Killed

    monkeypatch.setattr(batch_requests, "record_submitted", cut_short)
    with worker_of(FakeRecognizer(rows=16)) as transcription, pumped(transcription), working():
        batch = ended(client, batch)
    assert counts(batch) == (150, 150, 0)
    assert len(results(client, batch.output_file_id)) == 150
    assert rows("SELECT count(*) FROM images") == [(150,)]
    assert_ledger_balances()


@pytest.mark.usefixtures("service", "courier")
def test_the_end_of_a_batch_is_told_to_endpoints_and_verified_by_the_sdk(client: openai.OpenAI) -> None:
    with receiving() as receiver:
        endpoint = client.post(
            "/webhook_endpoints", body={"url": receiver.url, "events": ["batch.completed"]}, cast_to=object
        )
        assert isinstance(endpoint, dict)
        batch = ended(client, create(client, chat("a")))
        wait_until(lambda: receiver.requests)
        (request,) = receiver.requests
        event: Any = client.webhooks.unwrap(request.body, request.headers, secret=endpoint["secret"])
        assert (event.type, event.data.id) == ("batch.completed", batch.id)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(request.body + b" ", request.headers, secret=endpoint["secret"])


def test_a_clerk_that_is_killed_is_followed_by_another_and_ends_when_told(client: openai.OpenAI) -> None:
    batch = create(client, *[chat(f"line-{n}", max_tokens=n % 7 + 1) for n in range(400)])
    with (
        worker_of(FakeRecognizer(rows=16)) as transcription,
        pumped(transcription),
        clerk_process() as first,
        clerk_process() as second,
    ):
        wait_until(lambda: counts(client.batches.retrieve(batch.id))[1] > 0)
        first.kill()
        batch = ended(client, batch)
        second.terminate()
        assert second.wait(20) == 0
    assert counts(batch) == (400, 400, 0)
    assert rows("SELECT count(*) FROM images") == [(400,)]
    assert_ledger_balances()


@pytest.mark.usefixtures("service")
def test_the_jobs_of_a_batch_are_not_in_the_list_of_jobs(client: openai.OpenAI) -> None:
    ended(client, create(client, chat("a")))
    assert client.get("/jobs", cast_to=object)["data"] == []  # type: ignore[index]


@pytest.mark.usefixtures("service")
def test_the_files_of_a_batch_expire_as_asked(client: openai.OpenAI) -> None:
    batch = client.batches.create(
        input_file_id=upload(client, chat("a")),
        endpoint="/v1/chat/completions",
        completion_window="24h",
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    file_id = ended(client, batch).output_file_id
    assert file_id is not None
    file = client.files.retrieve(file_id)
    assert file.purpose == "batch_output"
    assert file.expires_at is not None
    assert abs(file.expires_at - file.created_at - 3600) <= 1
