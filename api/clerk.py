"""The clerk process, `python -m api.clerk`: takes batches step by step from their file to their results."""

from __future__ import annotations

import signal
import threading
from functools import partial

import structlog

from api.batch_rounds import ROUND_S, Clerk
from core.exclusive import Work, keep_doing
from core.logs import configure_logging
from core.metrics_server import serve_metrics
from core.tracing import configure_tracing

_log = structlog.get_logger(__name__)


def main() -> None:
    """Work on batches until SIGTERM or SIGINT; of several clerks one works, and the others stand by."""
    configure_logging()
    configure_tracing("clerk")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    serve_metrics()
    _log.info("clerk started")
    keep_doing(Work.BATCHES, stopped, begin=lambda: partial(Clerk().work_once, stopped), pause_s=ROUND_S)
    _log.info("clerk stopped")


if __name__ == "__main__":
    main()
