"""What the service benchmark counts: jobs that a worker without a model read, and a long history beside them."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from benchmarks.costless_worker import CostlessRecognizer
from benchmarks.job_history import write_ended_jobs
from benchmarks.load import RefusedError, job_request, send_all
from tests.domain import MODEL, new_key, rows
from tests.real_lines import line_files
from tests.waiting import wait_until
from tests.workers import pumped, worker_of


def test_jobs_are_sent_read_without_a_model_and_charged(address: str) -> None:
    request = job_request(new_key(), line_files()[:2], model=MODEL)
    with worker_of(CostlessRecognizer()) as transcription, pumped(transcription):
        send_all(urlsplit(address).port or 0, [request], times=4, connections=4)
        wait_until(lambda: rows("SELECT count(*) FROM jobs WHERE status = 'succeeded'") == [(4,)])
    assert rows("SELECT count(*), sum(lines) FROM ledger WHERE kind = 'capture'") == [(8, 8)]


def test_a_refused_request_ends_the_measurement(address: str) -> None:
    request = job_request("ink_nobody", line_files()[:1], model=MODEL)
    with pytest.raises(RefusedError, match="API key"):
        send_all(urlsplit(address).port or 0, [request], times=1, connections=1)


def test_a_history_is_made_of_whole_jobs(address: str) -> None:
    request = job_request(new_key(), line_files()[:1], model=MODEL)
    with worker_of(CostlessRecognizer()) as transcription, pumped(transcription):
        send_all(urlsplit(address).port or 0, [request], times=1, connections=1)
        wait_until(lambda: rows("SELECT count(*) FROM jobs WHERE status = 'succeeded'") == [(1,)])
    write_ended_jobs(20)
    counts = {"jobs": 21, "images": 21, "lines": 21, "job_events": 3 * 21, "ledger": 2 * 21 + 1}  # and a grant
    assert {table: rows(f"SELECT count(*) FROM {table}") for table in counts} == {
        table: [(count,)] for table, count in counts.items()
    }
