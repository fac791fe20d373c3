from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/inkqueue.json"


def documented() -> dict[str, set[str]]:
    """The labels of every metric; `test_metrics_documented.py` compares the names with those that exist."""
    rows = re.findall(r"^\| `(inkqueue_\w+)` \| ([^|]*)\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]
    return found


def queries() -> list[str]:
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels() for target in panel["targets"]]


def metric(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_queries_name_only_metrics_that_there_are() -> None:
    named = {metric(name) for query in queries() for name in re.findall(r"\binkqueue_\w+", query)}
    assert named <= documented().keys()
    assert named


def test_queries_choose_by_labels_that_these_metrics_have() -> None:
    for query in queries():
        for name, selector in re.findall(r"\b(inkqueue_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)=", selector)) <= documented()[metric(name)], query
        for labels in re.findall(r"\bby \(([^)]*)\)", query):
            names = [metric(name) for name in re.findall(r"\binkqueue_\w+", query)]
            for label in set(re.split(r", *", labels)) - {"le"}:
                if not names:
                    # Prometheus' and Python's own, of a process that was found by the name of its service.
                    assert label in {"process", "instance"}, query
                    continue
                assert any(label in documented()[name] for name in names), query


def test_every_metric_is_watched_by_the_dashboard_or_an_alert() -> None:
    named = {metric(name) for query in queries() for name in re.findall(r"\binkqueue_\w+", query)}
    unwatched = {"inkqueue_admitted_lines_total", "inkqueue_batch_jobs", "inkqueue_tokens_total"}
    unwatched |= {"inkqueue_waiting_lines", "inkqueue_oldest_line_seconds", "inkqueue_rows_in_use"}
    assert documented().keys() - named == unwatched


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "action"}


def test_no_panel_lies_upon_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_asks_the_prometheus_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}
