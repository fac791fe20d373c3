"""How a clerk divides its turns, waits for room, and survives what goes wrong in one request of a batch."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from sqlalchemy import event, text

from api import batch_results, batch_rounds, batch_work, prompt_jobs, remote_images
from api.batch_rounds import Clerk
from api.batch_work import turn
from api.openai_schemas import dumped
from api.prompt_jobs import AskedLines
from core import batch_requests, batches, files, intake, retention
from core.batches import Batch
from core.database import engine, transaction
from core.errors import Unavailable
from core.job_views import JobView
from core.new_jobs import NewJob
from core.settings import settings
from core.storage import ImageStore, image_store
from tests.domain import assert_ledger_balances, new_caller, new_key, png, rows, submit_lines
from tests.fakes import FakeRecognizer
from tests.openai_batches import LINE, Killed, chat, counts, create, ended, response, results, working
from tests.openai_clients import client_of, data_url
from tests.waiting import wait_until
from tests.workers import FlawedDecoder, pumped, worker_of

FOREVER = threading.Event()
URL = "http://lines.example.org/line.png"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_rounds, "ROUND_S", 0.01)


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of images that were fetched."""
    fetched: list[str] = []

    def fetch(url: str, _: object) -> bytes:
        fetched.append(url)
        return png()

    monkeypatch.setattr(remote_images, "fetch_image", fetch)
    return fetched


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings of this test's own: set them, and clear the cache."""
    yield monkeypatch
    monkeypatch.undo()
    settings.cache_clear()


def open_batches() -> list[Batch]:
    with transaction() as connection:
        return batches.open_batches(connection)


def begun(client: openai.OpenAI, *requests: dict[str, Any]) -> Batch:
    """A batch that was looked through, and of which nothing is submitted."""
    create(client, *requests)
    turn(open_batches()[-1], last_try=False)
    return open_batches()[-1]


def read_whole(client: openai.OpenAI, *requests: dict[str, Any]) -> Batch:
    """A batch of which only the results have not been written."""
    batch = begun(client, *requests)
    with worker_of(FakeRecognizer(rows=16)) as transcription, pumped(transcription):
        wait_until(lambda: Clerk().work_once(FOREVER) and open_batches()[0].status == "finalizing")
    return batch


def unhurried_clerk() -> Clerk:
    """One for whom each pause is over when he looks again."""
    return Clerk(clock=itertools.count(step=10).__next__)


def meets_a_defect(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


def test_a_request_that_meets_a_defect_fails_alone_after_three_tries(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, tries = AskedLines.job, []

    def job(asked: AskedLines, account_id: str) -> NewJob:
        if asked.metadata:
            tries.append(asked)
            raise ZeroDivisionError
        return original(asked, account_id)

    monkeypatch.setattr(prompt_jobs.AskedLines, "job", job)
    with worker_of(FakeRecognizer(rows=16)) as transcription, pumped(transcription), working():
        requests = [chat(f"line-{n}") for n in range(20)]
        requests[5] = chat("line-5", metadata={"poison": "yes"})
        batch = ended(client, create(client, *requests))
    assert (batch.status, counts(batch), len(tries)) == ("completed", (20, 19, 1), 3)
    (error,) = results(client, batch.error_file_id).values()
    assert (error["custom_id"], error["response"]["status_code"]) == ("line-5", 500)
    assert error["response"]["body"]["error"]["code"] == "internal"


def test_a_request_that_cannot_be_written_down_fails_alone_too(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = batch_requests.record_submitted

    def record(batch: Batch, requests: list[batch_requests.BatchRequest], *more: Any) -> None:
        if any(request.custom_id == "line-5" for request in requests):
            raise ZeroDivisionError
        original(batch, requests, *more)

    monkeypatch.setattr(batch_requests, "record_submitted", record)
    with worker_of(FakeRecognizer(rows=16)) as transcription, pumped(transcription), working():
        batch = ended(client, create(client, *[chat(f"line-{n}") for n in range(20)]))
    assert counts(batch) == (20, 19, 1)
    assert results(client, batch.error_file_id).keys() == {"line-5"}
    assert_ledger_balances()


def test_nothing_is_fetched_for_a_batch_while_the_queue_is_full(
    client: openai.OpenAI, fetches: list[str], limited: pytest.MonkeyPatch
) -> None:
    submit_lines(new_caller("other"), 3)
    limited.setenv("INKQUEUE_MAX_QUEUED_IMAGES", "3")
    settings.cache_clear()
    begun(client, chat("a", URL))
    clerk = Clerk()
    assert not any(clerk.work_once(FOREVER) for _ in range(20))
    assert fetches == []
    assert counts(client.batches.list().data[0]) == (1, 0, 0)


def test_nothing_is_fetched_for_a_batch_while_its_account_has_no_room(
    client: openai.OpenAI, fetches: list[str], limited: pytest.MonkeyPatch
) -> None:
    submit_lines(new_caller())
    limited.setenv("INKQUEUE_MAX_JOBS_IN_FLIGHT", "1")
    settings.cache_clear()
    begun(client, chat("a", URL))
    assert not Clerk().work_once(FOREVER)
    limited.setenv("INKQUEUE_MAX_JOBS_IN_FLIGHT", "2")
    limited.setenv("INKQUEUE_MAX_STORED_BYTES", str(len(png())))
    settings.cache_clear()
    assert not Clerk().work_once(FOREVER)
    assert fetches == []
    limited.setenv("INKQUEUE_MAX_STORED_BYTES", "0")
    settings.cache_clear()
    assert Clerk().work_once(FOREVER)
    assert fetches == [URL]


def test_a_batch_without_room_is_tried_after_ever_longer_pauses(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, limited: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_rounds, "ROUND_S", 0.5)
    submit_lines(new_caller())
    limited.setenv("INKQUEUE_MAX_JOBS_IN_FLIGHT", "1")
    settings.cache_clear()
    begun(client, chat("a"))
    tried: list[float] = []
    now_s = 0.0

    def counted(batch: Batch, *, last_try: bool) -> bool:
        tried.append(now_s)
        return turn(batch, last_try=last_try)

    monkeypatch.setattr(batch_rounds, "turn", counted)
    clerk = Clerk(clock=lambda: now_s)
    while now_s < 30:
        now_s += 0.5
        clerk.work_once(FOREVER)
    assert tried == [0.5, 1, 2, 4, 8, 16, 24]
    client.batches.cancel(client.batches.list().data[0].id)
    clerk.work_once(FOREVER)
    assert client.batches.list().data[0].status == "cancelled"


def test_requests_wait_for_credits_that_running_jobs_hold(address: str, fetches: list[str]) -> None:
    caller = new_caller("poor", grant_credits=5)
    job_id = submit_lines(caller, 4)  # holds 4 of 5 credits
    with client_of(address, new_key("poor")) as client:
        begun(client, chat("a", URL), chat("b"), chat("c", URL), chat("d", *[LINE] * 11))
        clerk = Clerk()
        assert clerk.work_once(FOREVER)
        assert fetches == [URL]
        assert rows("SELECT custom_id, outcome FROM batch_requests ORDER BY line") == [("a", "open"), ("b", "open")]
        assert not any(clerk.work_once(FOREVER) for _ in range(10))
        client.post(f"/jobs/{job_id}/cancel", cast_to=object)
        with worker_of(FakeRecognizer(rows=16)) as transcription, pumped(transcription), working():
            batch = ended(client, client.batches.list().data[0])
        assert counts(batch) == (4, 3, 1)
        (error,) = results(client, batch.error_file_id).values()
    assert error["response"]["body"]["error"]["code"] == "insufficient_quota"
    assert fetches == [URL, URL]
    assert_ledger_balances()


def test_a_keys_own_cap_is_waited_for_like_the_accounts_credits(client: openai.OpenAI) -> None:
    (key_id,) = rows("SELECT id FROM api_keys")[0]
    begun(client, chat("a"), chat("b"), chat("c"))
    with transaction() as connection:
        connection.exec_driver_sql("UPDATE api_keys SET monthly_cap_micro = 1000000")
    with worker_of(FakeRecognizer(rows=16)) as transcription, pumped(transcription), working():
        batch = ended(client, client.batches.list().data[0])
    assert counts(batch) == (3, 2, 1)
    assert rows("SELECT captured_micro FROM key_months WHERE key_id = :key", key=key_id) == [(1_000_000,)]


def test_an_account_has_so_many_open_batches_at_most(client: openai.OpenAI, limited: pytest.MonkeyPatch) -> None:
    limited.setenv("INKQUEUE_MAX_OPEN_BATCHES", "2")
    settings.cache_clear()
    first, _ = create(client, chat("a")), create(client, chat("a"))
    with pytest.raises(openai.RateLimitError, match="2 open batches") as refused:
        create(client, chat("a"))
    assert refused.value.code == "too_many_batches"
    assert refused.value.response.headers["x-should-retry"] == "false"
    client.batches.cancel(first.id)
    Clerk().work_once(FOREVER)
    create(client, chat("a"))


def test_turns_go_round_by_account(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noted(batch: Batch, *, last_try: bool) -> bool:
        order.append(names[batch.id])
        return not last_try

    monkeypatch.setattr(batch_rounds, "turn", noted)
    with client_of(address, new_key("large")) as large, client_of(address, new_key("small")) as small:
        names = {create(large, chat("a")).id: f"large {n}" for n in range(3)} | {create(small, chat("a")).id: "small"}
    clerk = Clerk()
    for _ in range(4):
        clerk.work_once(FOREVER)
    assert order == ["large 0", "small", "large 1", "small", "large 2", "small", "large 0", "small"]


def test_a_batch_that_was_read_ends_while_another_of_its_account_is_read(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_work, "_MOST_OPEN", 1)
    first = begun(client, chat("a"))
    clerk = Clerk()
    with worker_of(FakeRecognizer()) as transcription, pumped(transcription):
        wait_until(lambda: clerk.work_once(FOREVER) or rows("SELECT status FROM images") == [("succeeded",)])
        wait_until(lambda: rows("SELECT status FROM jobs") == [("succeeded",)])
    second = begun(client, chat("a"), chat("b"))
    while counts(client.batches.retrieve(second.id)) == (2, 0, 0) and clerk.work_once(FOREVER):
        pass
    assert client.batches.retrieve(first.id).status == "completed"
    assert client.batches.retrieve(second.id).status == "in_progress"


@pytest.mark.parametrize("dies_at", ["end", "add"])
def test_a_clerk_that_dies_while_it_writes_leaves_results_once(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    batch = read_whole(client, chat("a"), chat("b", data_url(b"no image")))

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(*((batches, "end", die) if dies_at == "end" else (files, "add", die)))
        with pytest.raises(Killed):
            Clerk().work_once(FOREVER)
    assert list(client.files.list(purpose="batch_output")) == []
    Clerk().work_once(FOREVER)
    seen = client.batches.retrieve(batch.id)
    assert (seen.status, counts(seen)) == ("completed", (2, 1, 1))
    found = {file.id for file in client.files.list(purpose="batch_output")}
    assert found == {seen.output_file_id, seen.error_file_id}
    monkeypatch.setattr(files, "_ORPHAN_AGE", -files._ORPHAN_AGE)
    files.delete_orphans()
    stored = {key.rsplit("/", 1)[-1] for key in image_store(settings()).list("files")}
    assert stored == {file.id for file in client.files.list()}
    assert rows("SELECT stored_bytes FROM accounts") == rows(
        "SELECT (SELECT sum(size_bytes) FROM files) + (SELECT sum(stored_bytes) FROM jobs)"
    )


def test_results_need_no_room_but_in_the_storage(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batch = read_whole(client, chat("a"), chat("b", data_url(b"no image")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing fits in here"))
    assert Clerk().work_once(FOREVER)
    seen = client.batches.retrieve(batch.id)
    assert results(client, seen.output_file_id).keys() == {"a"}
    assert results(client, seen.error_file_id).keys() == {"b"}


def test_a_request_whose_result_meets_a_defect_fails_alone_after_three_tries(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = read_whole(client, chat("a", data_url(b"no image")), chat("b"), chat("c"))
    answers: list[BaseModel] = []

    def dumped_but_each_second(body: BaseModel) -> dict[str, Any]:
        answers.append(body)
        return dumped(body) if len(answers) % 2 else meets_a_defect()

    monkeypatch.setattr(batch_results, "dumped", dumped_but_each_second)
    clerk = unhurried_clerk()
    assert [clerk.work_once(FOREVER) for _ in range(4)] == [False, False, True, False]
    seen = client.batches.retrieve(batch.id)
    assert (seen.status, counts(seen)) == ("completed", (3, 1, 2))
    assert results(client, seen.output_file_id).keys() == {"b"}
    invalid, internal = results(client, seen.error_file_id).values()
    assert invalid["response"]["body"]["error"]["code"] == "unsupported_image"
    assert (internal["custom_id"], internal["response"]["status_code"]) == ("c", 500)
    assert internal["response"]["request_id"].startswith("job_")


def test_a_batch_whose_writing_meets_a_defect_waits_for_a_version_without_it(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = read_whole(client, chat("a", data_url(b"no image")), chat("b"))
    stored = image_store(settings()).list("files")
    clerk = unhurried_clerk()
    with monkeypatch.context() as defective:
        defective.setattr(batch_results, "_readings", meets_a_defect)
        assert not any(clerk.work_once(FOREVER) for _ in range(8))
    assert sorted(image_store(settings()).list("files")) == sorted(stored)
    wait_until(lambda: clerk.work_once(FOREVER))
    assert client.batches.retrieve(batch.id).status == "completed"


def test_results_wait_for_a_storage_that_is_away_also_at_the_last_try(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = read_whole(client, chat("a"))

    def away(*_: Any) -> None:
        raise Unavailable

    with monkeypatch.context() as outage:
        outage.setattr(ImageStore, "writing", away)
        with pytest.raises(Unavailable):
            turn(open_batches()[0], last_try=True)
    assert turn(open_batches()[0], last_try=True)
    assert client.batches.retrieve(batch.id).status == "completed"


def test_what_was_read_of_a_request_that_failed_stands_in_the_error_file(client: openai.OpenAI) -> None:
    with worker_of(FakeRecognizer(rows=16), FlawedDecoder()) as transcription, pumped(transcription), working():
        batch = ended(client, create(client, chat("a", LINE, LINE, LINE), chat("b")))
    assert counts(batch) == (2, 1, 1)
    (error,) = results(client, batch.error_file_id).values()
    assert error["response"]["body"]["error"]["code"] == "invalid_image"
    first, second, third = error["ocr"]["rows"]
    assert first.startswith("text of img_") and third.startswith("text of img_") and second is None
    assert "ocr" not in results(client, batch.output_file_id)["b"]
    assert rows("SELECT sum(amount_micro) FROM ledger WHERE kind = 'capture'") == [(1_500_000,)]  # 3 of 4, at 0.5


def test_a_response_of_a_batch_does_not_fail_for_one_that_was_read_beside_it(client: openai.OpenAI) -> None:
    with worker_of(FakeRecognizer(rows=16), FlawedDecoder()) as transcription, pumped(transcription), working():
        requests = [response(name) for name in "abc"]
        batch = ended(client, create(client, *requests, endpoint="/v1/responses"))
    assert (counts(batch), rows("SELECT status FROM jobs")) == ((3, 2, 1), [("partial",)])
    answers = results(client, batch.output_file_id).values()
    assert [answer["response"]["body"]["status"] for answer in answers] == ["completed", "completed"]


def test_a_job_that_fails_while_its_batch_is_settled_is_not_taken_for_read(client: openai.OpenAI) -> None:
    turn(begun(client, chat("a")), last_try=False)
    failed: list[str] = []

    def fail_the_job(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE batch_requests") and not failed:
            failed.append(statement)
            with transaction() as other:
                other.execute(text("UPDATE images SET status = 'failed', finished_at = now(), error_code = 'internal'"))
                other.execute(text("UPDATE jobs SET status = 'failed', finished_at = now()"))

    event.listen(engine(), "after_cursor_execute", fail_the_job)
    try:
        outcomes = []
        for _ in range(2):
            with transaction() as connection:
                batch_requests.settle(connection, open_batches()[-1])
            outcomes += rows("SELECT outcome FROM batch_requests")
    finally:
        event.remove(engine(), "after_cursor_execute", fail_the_job)
    assert (len(failed), outcomes) == (1, [("open",), ("failed",)])


def test_what_was_read_is_kept_until_its_batch_is_written(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.retention.settings", lambda: settings().model_copy(update={"retention_days": 1e-9}))
    batch = read_whole(client, chat("a"), chat("b"))
    with transaction() as connection:
        assert retention.delete_kept_too_long(connection) == []
    Clerk().work_once(FOREVER)
    assert counts(client.batches.retrieve(batch.id)) == (2, 2, 0)
    with transaction() as connection:
        assert len(retention.delete_kept_too_long(connection)) == 1


def test_a_batch_that_is_forgotten_is_still_seen_with_its_counts_and_files(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.retention.settings", lambda: settings().model_copy(update={"retention_days": 1e-9}))
    batch = read_whole(client, chat("a"), chat("b", data_url(b"no image")))
    with transaction() as connection:
        assert not retention.forget_batches_kept_too_long(connection)
    Clerk().work_once(FOREVER)
    before = client.batches.retrieve(batch.id)
    with transaction() as connection:
        assert retention.forget_batches_kept_too_long(connection)
    assert rows("SELECT custom_id FROM batch_requests") == []
    seen = client.batches.retrieve(batch.id)
    assert (before.metadata, seen) == ({"box": "12"}, before.model_copy(update={"metadata": None}))
    assert list(client.batches.list()) == [seen]
    assert results(client, seen.output_file_id).keys() == {"a"}
    assert results(client, seen.error_file_id).keys() == {"b"}


def test_a_clerk_that_stood_still_submits_nothing_for_a_batch_that_another_has_ended(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = create(client, chat("one"), chat("two")).id
    turn(open_batch(batch_id), last_try=False)
    submit = intake.submit

    def late(*arguments: Any, **more: Any) -> JobView:
        client.batches.cancel(batch_id)
        other = Clerk()
        wait_until(lambda: not other.work_once(FOREVER) and client.batches.retrieve(batch_id).status == "cancelled")
        return submit(*arguments, **more)

    monkeypatch.setattr(intake, "submit", late)
    with pytest.raises(Unavailable):
        turn(open_batch(batch_id), last_try=False)
    wait_until(lambda: not Clerk().work_once(FOREVER))
    ended_batch = client.batches.retrieve(batch_id)
    assert (ended_batch.status, counts(ended_batch)) == ("cancelled", (2, 0, 2))
    assert rows("SELECT count(*) FROM jobs") == [(0,)]
    assert rows("SELECT held_micro FROM accounts") == [(0,)]
    assert rows("SELECT count(*) FROM batch_requests WHERE outcome = 'open'") == [(0,)]


def open_batch(batch_id: str) -> Batch:
    with transaction() as connection:
        return next(batch for batch in batches.open_batches(connection) if batch.id == batch_id)
