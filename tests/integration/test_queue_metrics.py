"""How much waits for each model, as Prometheus sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.queue_metrics import metrics_registry
from core import leases
from core.claims import claim
from core.errors import Unavailable
from core.settings import settings
from tests.domain import MODEL, new_caller, submit_lines


def figures(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], float]:
    """The queue's figures on `/metrics`, by name and model."""
    published = settings().model_copy(update={"metrics": True})
    monkeypatch.setattr("api.health_routes.settings", lambda: published)
    text = create_app().test_client().get("/metrics").text
    assert "inkqueue_requests" in text, "the other figures are there in any case"
    return {
        (family.name, sample.labels["model"]): sample.value
        for family in text_string_to_metric_families(text)
        if "queued" in family.name
        for sample in family.samples
    }


def test_the_depth_and_age_of_each_queue_are_those_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = new_caller()
    submit_lines(caller, 3)
    submit_lines(caller, 2, model="other")
    found = figures(monkeypatch)
    assert found["inkqueue_queued_images", MODEL] == 3
    assert found["inkqueue_queued_images", "other"] == 2
    assert 0 < found["inkqueue_oldest_queued_seconds", MODEL] < 60


def test_a_claimed_image_waits_no_more_and_a_served_model_is_shown_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    submit_lines(new_caller(), 3)
    worker_id = leases.register([{"name": MODEL}])
    assert len(claim(worker_id, MODEL, most=16)) == 3
    assert figures(monkeypatch) == {
        ("inkqueue_queued_images", MODEL): 0,
        ("inkqueue_oldest_queued_seconds", MODEL): 0,
    }


def test_without_the_database_the_other_figures_are_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise Unavailable("Postgres is away")

    monkeypatch.setattr("api.queue_metrics.backlogs", away)
    assert figures(monkeypatch) == {}


def test_where_processes_are_counted_together_the_one_that_answers_tells_its_own_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    told = generate_latest(metrics_registry())
    for name in (b"process_resident_memory_bytes ", b"process_cpu_seconds_total ", b"inkqueue_part_up{"):
        assert b"\n" + name in told
