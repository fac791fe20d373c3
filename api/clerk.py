"""The clerk process, `python -m api.clerk`: takes batches step by step from their file to their results."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import structlog

from api.batch_work import turn
from core import batches
from core.database import transaction
from core.errors import Unavailable
from core.exclusive import Work, alone
from core.logs import configure_logging

#: How often it looks for work when there was none.
_ROUND_S = 0.5

_log = structlog.get_logger(__name__)


def main() -> None:
    """Work on batches until SIGTERM or SIGINT; of several clerks one works, and the others stand by."""
    configure_logging()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    _log.info("clerk started")
    while not stopped.is_set():
        try:
            with alone(Work.BATCHES, stopped) as check:
                _work(check, stopped)
        except Exception as exc:
            # The clerk's outer edge: Postgres may be away for a while, and nobody else works on batches.
            _log.warning("the clerk begins anew", error=repr(exc))
            stopped.wait(_ROUND_S)
    _log.info("clerk stopped")


def _work(check: Callable[[], None], stopped: threading.Event) -> None:
    while not stopped.is_set():
        check()
        if not work_once(stopped):
            stopped.wait(_ROUND_S)


def work_once(stopped: threading.Event) -> bool:
    """One turn for each batch; whether one of them has more to do at once."""
    with transaction() as connection:
        open_ones = batches.open_batches(connection)
    more = False
    for batch in open_ones:
        if stopped.is_set():
            break
        try:
            more |= turn(batch)
        except Unavailable as exc:
            _log.warning("a batch waits", batch=batch.id, why=exc.message)
        except Exception:
            # A batch that meets a defect must not hold up the others.
            _log.exception("a batch failed its turn", batch=batch.id)
    return more


if __name__ == "__main__":
    main()
