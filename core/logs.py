"""One readable log: structlog and the libraries' own records in the same form, for people or for machines."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from core.redaction import redact_record
from core.settings import settings

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging() -> None:
    """Send everything that this process logs to its standard error, one line a record."""
    renderer: Processor = (
        # It finds tracebacks written already, in which there are no local variables: people's texts, and their keys.
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
        if settings().log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_record,
                renderer,
            ],
        )
    )
    # A record that cannot be written would otherwise be printed as it came, secrets included.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings().log_level.upper())
    # One line a request or a task is what these libraries say at "info"; the service says what matters itself.
    for chatty in ("httpx", "alembic", "celery.worker.strategy", "celery.app.trace", "kombu"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
