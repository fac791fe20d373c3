"""The one Celery task: a ticket for a model starts a pump."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from celery import Celery

from core.errors import Unavailable
from core.queue import READ_TASK
from worker.tickets import Tickets
from worker.transcription import Transcription

_log = structlog.get_logger(__name__)


def register_tasks(app: Celery, transcriptions: Mapping[str, Transcription], tickets: Tickets) -> None:
    """Make the worker's Celery application serve tickets for these models."""

    def read(model: str) -> None:
        try:
            with tickets.serving(model):
                transcriptions[model].pumps.pump()
        except Unavailable as exc:
            # The ticket is spent; the sweeper sends another once the database is back.
            _log.warning("a ticket was cut short", model=model, error=exc.message)

    app.task(name=READ_TASK)(read)
