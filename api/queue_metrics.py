"""All figures under Prometheus names; what waits is asked of Postgres: no process's own count could be the whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from prometheus_client import REGISTRY, CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from core.backlog import backlogs, webhooks_due
from core.errors import Unavailable
from core.health import parts_up


class _Service(Collector):
    def describe(self) -> Iterable[Metric]:
        """Nothing: otherwise the registry would ask Postgres when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What is up and what waits; without what only Postgres knows while it is away, so that the rest is seen."""
        parts = GaugeMetricFamily("inkqueue_part_up", "Whether a part of the service is up.", labels=["part"])
        for part, up in parts_up().items():
            parts.add_metric([part], up)
        yield parts
        with suppress(Unavailable):
            yield from _queues()


def _queues() -> Iterator[Metric]:
    images = GaugeMetricFamily("inkqueue_queued_images", "Images that no worker has claimed.", labels=["model"])
    oldest = GaugeMetricFamily("inkqueue_oldest_queued_seconds", "Wait of the oldest of them.", labels=["model"])
    workers = GaugeMetricFamily("inkqueue_workers", "Living workers that serve a model.", labels=["model"])
    for backlog in backlogs():
        images.add_metric([backlog.model], backlog.images)
        oldest.add_metric([backlog.model], backlog.oldest_s)
        workers.add_metric([backlog.model], backlog.workers)
    yield from (images, oldest, workers)
    yield GaugeMetricFamily("inkqueue_webhooks_due", "Webhooks that are due and not under way.", value=webhooks_due())


def metrics_registry() -> CollectorRegistry:
    """What the API tells: its own counts and the queue."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        # The processes that share this folder are counted together: the API's, and on one machine the worker's too.
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        # Not among these counts: the CPU and memory of the process that is asked.
        ProcessCollector(registry=registry)
    else:
        registry.register(REGISTRY)
    registry.register(_Service())
    return registry
