"""The worker process for faults: all of it is the service's own, but the device hangs for ever when a file says so."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from core.logs import configure_logging
from tests.faults.wedge import MODEL, wedge_file
from worker.main import serve
from worker.ppocr import PpocrRecognizer
from worker.recognizer import Recognition


class WedgingRecognizer(PpocrRecognizer):
    """ppocr-v6, until it is wedged: then the step never returns, as with a driver that has lost its device."""

    def step(self) -> Mapping[str, Recognition]:
        """Read, or hang; the next life of the process reads again."""
        wedge = wedge_file(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).parent)
        if wedge.exists():
            wedge.unlink()
            threading.Event().wait()
        return super().step()


if __name__ == "__main__":
    configure_logging()
    serve({MODEL: WedgingRecognizer()})
