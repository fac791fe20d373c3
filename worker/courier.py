"""The courier process: `python -m worker.courier`."""

from __future__ import annotations

import signal
import threading

import structlog

from core.errors import Unavailable
from core.exclusive import Work, keep_doing
from core.logs import configure_logging
from core.metrics_server import serve_metrics
from core.tracing import configure_tracing
from worker.cleaner import Cleaner
from worker.delivery import Deliverer
from worker.sweeper import Sweeper

_ROUND_S = 1.0
#: Between rounds of clearing away in which nothing was found.
_CLEANING_PAUSE_S = 5.0
#: How long webhooks that are under way at the end may take; the next courier sends what they leave.
_GRACE_S = 5.0

_log = structlog.get_logger(__name__)


def main() -> None:
    """Deliver webhooks, sweep every second, and clear away what is kept no longer, until SIGTERM or SIGINT."""
    configure_logging()
    configure_tracing("courier")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    serve_metrics()
    _log.info("courier started")
    deliverer = Deliverer()
    deliverer.start()
    # At the end it is left in the middle of its round: each duty is done again as far as it was not.
    threading.Thread(target=_clean, args=(stopped,), name="cleaner", daemon=True).start()
    sweeper = Sweeper()
    while not stopped.wait(_ROUND_S):
        _sweep(sweeper)
    deliverer.close(timeout_s=_GRACE_S)
    _log.info("courier stopped")


def _clean(stopped: threading.Event) -> None:
    keep_doing(Work.CLEANING, stopped, begin=lambda: Cleaner().clean, pause_s=_CLEANING_PAUSE_S)


def _sweep(sweeper: Sweeper) -> None:
    try:
        sweeper.sweep()
    except Unavailable as exc:
        _log.warning("a round was skipped", error=exc.message)
    except Exception:
        # The courier's outer edge: whatever one round met, the next may succeed, and nothing else repairs lost work.
        _log.exception("a round failed")


if __name__ == "__main__":
    main()
