"""The queue under Prometheus names, asked of Postgres at each look: no process's own count could be the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from core.backlog import backlogs
from core.errors import Unavailable


class _Queue(Collector):
    def describe(self) -> Iterable[Metric]:
        """Nothing: otherwise the registry would ask Postgres when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The depth and age of each model's queue."""
        images = GaugeMetricFamily("inkqueue_queued_images", "Images that no worker has claimed.", labels=["model"])
        oldest = GaugeMetricFamily("inkqueue_oldest_queued_seconds", "Wait of the oldest of them.", labels=["model"])
        for backlog in backlogs():
            images.add_metric([backlog.model], backlog.images)
            oldest.add_metric([backlog.model], backlog.oldest_s)
        yield images
        yield oldest


_REGISTRY = CollectorRegistry()
_REGISTRY.register(_Queue())


def queue_metrics() -> bytes:
    """The queue's figures in Prometheus' text format; nothing while Postgres is away, so that the others are seen."""
    try:
        return generate_latest(_REGISTRY)
    except Unavailable:
        return b""
