"""A process's figures for Prometheus, at an address of their own that callers of the API need not reach."""

from __future__ import annotations

import errno

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from core.settings import settings

_log = structlog.get_logger(__name__)


def serve_metrics(registry: CollectorRegistry = REGISTRY) -> None:
    """Serve a registry at `metrics_address`, in a daemon thread, while the process lasts; nowhere if that is empty.

    Of several processes on one machine the first one has the address.
    """
    if not settings().metrics_address:
        return
    host, _, port = settings().metrics_address.rpartition(":")
    try:
        start_http_server(int(port), addr=host.strip("[]"), registry=registry)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        _log.info("another process serves its metrics here", address=settings().metrics_address)
