"""The clerk process, `python -m api.clerk`: takes batches step by step from their file to their results."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import structlog

from api.batch_rounds import ROUND_S, Clerk
from core.exclusive import Work, alone
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
    while not stopped.is_set():
        try:
            with alone(Work.BATCHES, stopped) as check:
                _work(check, stopped)
        except Exception as exc:
            # The clerk's outer edge: Postgres may be away for a while, and nobody else works on batches.
            _log.warning("the clerk begins anew", error=repr(exc))
            stopped.wait(ROUND_S)
    _log.info("clerk stopped")


def _work(check: Callable[[], None], stopped: threading.Event) -> None:
    clerk = Clerk()
    while not stopped.is_set():
        check()
        if not clerk.work_once(stopped):
            stopped.wait(ROUND_S)


if __name__ == "__main__":
    main()
