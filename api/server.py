"""How gunicorn runs the API; the address comes from the command line."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger
from prometheus_client import multiprocess

from core.logs import configure_logging
from core.settings import settings

# Where there are several, their counts meet here; it may be a folder that is empty and gone at each start.
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).mkdir(exist_ok=True)


class ServiceLog(Logger):  # type: ignore[misc] # gunicorn ships no types
    """Gunicorn's own records in the service's log, and so without what callers sent: it would log whole addresses."""

    def setup(self, cfg: Config) -> None:
        """Hand them on; gunicorn calls this at its start."""
        super().setup(cfg)
        configure_logging()
        self.error_log.handlers.clear()
        self.error_log.propagate = True


logger_class = ServiceLog
worker_class = "gthread"
workers = settings().api_processes
threads = settings().api_threads
#: Connections, idle ones included; those beyond the threads wait for their next request without holding one.
worker_connections = 2 * settings().api_threads + 1000
#: A process that does not even beat for so long is replaced; requests that wait do not count.
timeout = 60
#: What is in flight at SIGTERM may end; long polls are answered at once.
graceful_timeout = 25
keepalive = 30
#: The application logs each request itself, without its query.
accesslog = None
#: Options of a raw image, metadata among them, stand in the request line.
limit_request_line = 8190
#: It would lie in the home folder, one for all services of a user; nobody here asks for it.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Answer long polls and end streams when the process is told to stop; runs in each process that serves."""

    # gunicorn has a hook for SIGINT and SIGQUIT only; its supervisor ends its processes by SIGTERM.
    def stop(number: int, frame: object) -> None:
        _stop_waiting()
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, stop)

    # After the fork, which their threads and locks would not survive, and before the first requests, of which two at
    # once would each make their own.
    from api.live_texts import live_texts
    from api.queue_metrics import metrics_registry
    from api.waiting import job_waits
    from core.database import engine
    from core.metrics_server import serve_metrics

    engine()
    job_waits()
    live_texts()
    serve_metrics(metrics_registry())


def worker_int(worker: Any) -> None:
    """Do the same at SIGINT and SIGQUIT."""
    del worker
    _stop_waiting()


def _stop_waiting() -> None:
    # Imported here: before the fork, their locks would be copied.
    from api.live_texts import live_texts
    from api.waiting import job_waits

    # A signal may come while a lock is held that this takes.
    threading.Thread(target=lambda: job_waits().close()).start()
    threading.Thread(target=lambda: live_texts().close()).start()


def child_exit(server: Any, worker: Any) -> None:
    """Forget a process's live gauges when it has ended."""
    del server
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
