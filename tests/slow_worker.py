"""A worker whose recognizer takes a second for each line: `python -m tests.slow_worker`."""

from __future__ import annotations

import threading

from core.logs import configure_logging
from tests.domain import MODEL
from tests.fakes import FakeRecognizer
from worker.main import serve

_STEPS = 10
_STEP_S = 0.1


def main() -> None:
    """Read until SIGTERM."""
    configure_logging()
    serve({MODEL: FakeRecognizer(rows=2, steps=_STEPS, on_step=_take_time)})


def _take_time() -> None:
    threading.Event().wait(_STEP_S)


if __name__ == "__main__":
    main()
