"""A process's figures at an address of their own."""

from __future__ import annotations

import socket
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Counter

from core.metrics_server import serve_metrics
from core.settings import settings


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_figures_are_served_at_an_address_of_either_kind(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((host.strip("[]"), 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        port = free.getsockname()[1]
    told = settings().model_copy(update={"metrics_address": f"{host}:{port}"})
    monkeypatch.setattr("core.metrics_server.settings", lambda: told)
    registry = CollectorRegistry()
    Counter("tries", "Of this test.", registry=registry).inc()
    serve_metrics(registry)
    with urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        assert b"tries_total 1.0" in answer.read()
