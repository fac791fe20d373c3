"""The main job as its users do it: the whole stack, real models, HTTP from outside."""

from __future__ import annotations

import base64
import csv
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.openai_clients import client_of, data_url
from tests.service import Service, running_service
from tests.waiting import wait_until

DATA = Path("tests/data").resolve()
LINE = DATA / "line.jpg"
TRUTHS = {
    row["file"]: row["text"]
    for row in csv.DictReader((DATA / "lines.tsv").read_text().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with the models that it takes by itself."""
    with running_service(tmp_path_factory.mktemp("state")) as service:
        yield service


def _error_rate(read: str, truth: str) -> float:
    previous = list(range(len(truth) + 1))
    for i, a in enumerate(read, 1):
        current = [i]
        for j, b in enumerate(truth, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (a != b)))
        previous = current
    return previous[-1] / len(truth)


def test_the_sample_line_is_read_in_all_three_forms(service: Service) -> None:
    data = LINE.read_bytes()
    raw = service.http.post("/v1/jobs", content=data, headers={"Content-Type": "image/jpeg"}).json()["id"]
    sent_json = service.http.post("/v1/jobs", json={"images": [{"base64": base64.b64encode(data).decode()}]})
    ids = [raw, service.submit(LINE), sent_json.json()["id"]]
    assert {service.ended(job_id)["text"] for job_id in ids} == {TRUTHS["line.jpg"]}


def test_forty_lines_at_once_are_read_well_in_batches_of_many_jobs(service: Service) -> None:
    files = [DATA / name for name in TRUTHS] * 4
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda file: service.ended(service.submit(file)), files))
    assert {job["status"] for job in jobs} == {"succeeded"}
    modern = [(job["text"], TRUTHS[f.name]) for job, f in zip(jobs, files, strict=True) if "stanford" not in f.name]
    assert sum(_error_rate(*pair) for pair in modern) / len(modern) < 0.3
    model = jobs[0]["model"]
    steps = service.metric("inkqueue_batch_jobs_count", model=model)
    assert service.metric("inkqueue_batch_jobs_bucket", model=model, le="1.0") < steps


def test_the_database_holds_text_and_charge_of_a_job(service: Service) -> None:
    job_id = service.submit(LINE)
    service.ended(job_id)
    assert service.rows(
        "SELECT lines.text FROM lines JOIN images ON images.id = lines.image_id WHERE job_id = %s", job_id
    ) == [(TRUTHS["line.jpg"],)]
    assert service.rows("SELECT kind, amount_micro FROM ledger WHERE job_id = %s ORDER BY id", job_id) == [
        ("hold", 1_000_000),
        ("capture", 1_000_000),
    ]


def test_an_interactive_line_is_back_before_twenty_of_a_bulk_job(service: Service) -> None:
    service.command("credits", "grant", "default", "1000")
    bulk = service.submit(*[LINE] * 500, priority="bulk")
    before = service.http.get(f"/v1/jobs/{bulk}").json()["progress"]["images_done"]
    urgent = service.ended(service.submit(LINE, priority="interactive"))
    after = service.http.get(f"/v1/jobs/{bulk}").json()["progress"]["images_done"]
    service.http.post(f"/v1/jobs/{bulk}/cancel")
    assert urgent["status"] == "succeeded"
    assert after - before < 20


def test_a_worker_with_nothing_to_do_is_woken_without_tickets_and_stands_down_at_its_end(service: Service) -> None:
    jobs = 10
    with service.redis() as redis:

        def standing_by() -> set[bytes]:
            return set(redis.smembers("inkqueue:standing-by:trocr-tiny"))

        def tickets() -> int:
            return int(redis.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"])

        wait_until(standing_by)
        before, sent = standing_by(), tickets()
        for _ in range(jobs):
            wait_until(standing_by)
            service.ended(service.submit(LINE, model="trocr-tiny"))
        # A round of the courier sends one where it meets an image that waits to be claimed at that moment.
        assert tickets() - sent < jobs * 0.8
        worker = min(service.children("worker.main"))  # the first process, which the others are started by
        os.kill(worker, signal.SIGTERM)
        wait_until(lambda: worker not in service.children("worker.main"))
        wait_until(standing_by)
        assert not before & standing_by()


def test_a_worker_killed_amid_work_and_a_flushed_redis_lose_and_double_nothing(service: Service) -> None:
    jobs = [service.submit(*[LINE] * 8) for _ in range(6)]
    first = jobs[0]
    wait_until(lambda: service.http.get(f"/v1/jobs/{first}").json()["progress"]["images_done"], timeout_s=30)
    for pid in service.children("worker.main"):
        os.kill(pid, signal.SIGKILL)
    with service.redis() as redis:
        redis.flushall()
    ended = [service.ended(job_id) for job_id in jobs]
    assert [(job["status"], job["usage"]) for job in ended] == [
        ("succeeded", {"lines": 8, "credits": 8, "held": 0})
    ] * 6
    assert service.rows(
        "SELECT count(*), count(DISTINCT image_id) FROM ledger WHERE kind = 'capture' AND job_id = ANY(%s)", jobs
    ) == [(48, 48)]


def test_truncated_pixels_fail_their_image_alone_and_free(service: Service, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(LINE.read_bytes()[:2000])
    job = service.ended(service.submit(LINE, broken))
    assert [(image["status"], image["error"] and image["error"]["code"]) for image in job["images"]] == [
        ("succeeded", None),
        ("failed", "invalid_image"),
    ]
    assert (job["status"], job["usage"]["credits"]) == ("partial", 1)


def test_both_models_are_served_and_each_job_names_its_own(service: Service) -> None:
    served = {model["id"] for model in service.http.get("/v1/models").json()["data"] if model["loaded"]}
    assert served == {"ppocr-v6", "trocr-tiny"}
    assert service.ended(service.submit(LINE))["model"] == "trocr-tiny"
    for model in served:
        job = service.ended(service.submit(LINE, model=model))
        assert (job["status"], job["model"]) == ("succeeded", model)
        assert job["text"]


def test_openais_client_streams_a_line_and_has_a_batch_read(service: Service) -> None:
    key = service.http.headers["Authorization"].removeprefix("Bearer ")
    image = {"type": "image_url", "image_url": {"url": data_url(LINE.read_bytes(), "image/jpeg")}}
    body: Any = {"model": "trocr-tiny", "messages": [{"role": "user", "content": [image]}]}
    request = {"custom_id": "line", "method": "POST", "url": "/v1/chat/completions", "body": body}
    with client_of(str(service.http.base_url).rstrip("/"), key) as client:
        pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**body, stream=True)]
        file = client.files.create(file=("batch.jsonl", json.dumps(request).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        wait_until(lambda: client.batches.retrieve(batch.id).status == "completed", timeout_s=60)
        output_file_id = client.batches.retrieve(batch.id).output_file_id
        assert output_file_id is not None
        (answer,) = [json.loads(line) for line in client.files.content(output_file_id).text.splitlines()]
    # on a busy machine several steps share a piece
    assert len([piece for piece in pieces if piece]) > 1
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == "".join(pieces)
    assert answer["response"]["body"]["usage"]["ocr"] == {"lines": 1, "credits": 0.5}
