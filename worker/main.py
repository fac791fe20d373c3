"""The worker process, `python -m worker.main`: loads models, takes out a lease, and reads until SIGTERM."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NoReturn

import structlog
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_ready, worker_shutting_down
from kombu.entity import Queue

from core import leases, notices, standby
from core.logs import configure_logging
from core.metrics_server import serve_metrics
from core.queue import celery_app, queue_name
from core.settings import settings
from core.tracing import configure_tracing
from worker.decoding import DecodingPool
from worker.finisher import Finisher
from worker.lease import Heartbeat
from worker.live_texts import LiveTexts
from worker.metrics import PrometheusObserver
from worker.models import ModelUnavailable, load_recognizer
from worker.recognizer import Recognizer
from worker.tasks import register_tasks
from worker.tickets import Tickets
from worker.transcription import Transcription

#: How long lines in rows may take to end at SIGTERM, and then results to be written, seconds.
_GRACE_S = 20.0
_WRITE_S = 10.0

_log = structlog.get_logger(__name__)


def main() -> None:
    """Run one worker with the models of the settings until it is told to stop."""
    configure_logging()
    configure_tracing("worker")
    serve(_load_models(settings().models))


def serve(recognizers: Mapping[str, Recognizer]) -> NoReturn:
    """Read with these models, under the names that jobs ask for, until SIGTERM; then end the process."""
    worker_id = leases.register([asdict(recognizer.card) for recognizer in recognizers.values()])
    # The pool comes after the models: its processes are spawned, not forked, and know nothing of them.
    decoder = DecodingPool(
        processes=settings().decode_processes,
        timeout_s=settings().decode_timeout_s,
        memory_bytes=settings().decode_memory_bytes,
    )
    finisher = Finisher()
    live_texts = LiveTexts()
    transcriptions = {
        model: Transcription(
            model,
            worker_id=worker_id,
            recognizer=recognizer,
            decoder=decoder,
            finisher=finisher,
            live_texts=live_texts,
            observer=PrometheusObserver(model, rows=recognizer.rows),
        )
        for model, recognizer in recognizers.items()
    }
    tickets = Tickets(list(recognizers))
    heartbeat = Heartbeat(worker_id, list(transcriptions.values()), finisher, tickets)
    cancels = notices.Listener(notices.IMAGES_CANCELED, lambda image_id: _drop(transcriptions, image_id))
    wakes = notices.Listener(
        standby.wakes_of(worker_id), lambda word: transcriptions[standby.model_of(word)].pumps.wake()
    )
    serve_metrics()
    finisher.start()
    live_texts.start()
    for transcription in transcriptions.values():
        transcription.batcher.start()
    heartbeat.start()
    cancels.start()
    _log.info("worker ready", worker=worker_id, models=list(recognizers))
    status = _serve(transcriptions, tickets, wakes)
    standby.stand_down(worker_id, list(recognizers))
    for transcription in transcriptions.values():
        transcription.stop(_GRACE_S)
    finisher.close(_WRITE_S)
    live_texts.close()
    heartbeat.stop()
    leases.resign(worker_id)
    cancels.stop()
    wakes.stop()
    decoder.close()
    _log.info("worker stopped", worker=worker_id)
    sys.exit(status)


def _load_models(names: Sequence[str]) -> Mapping[str, Recognizer]:
    recognizers = {}
    for name in names:
        started = time.monotonic()
        try:
            recognizers[name] = load_recognizer(name, settings())
        except ModelUnavailable as exc:
            sys.exit(f"model {name} cannot be served: {exc}")
        _log.info("model loaded", **asdict(recognizers[name].card), seconds=round(time.monotonic() - started, 2))
    return recognizers


def _serve(transcriptions: Mapping[str, Transcription], tickets: Tickets, wakes: notices.Listener) -> int:
    """Run Celery until it is told to stop; its exit status."""
    # In a container, and under an embedded Postgres, root is usual; tickets carry a name as JSON and nothing to run.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app = celery_app()
    # A worker waits for tickets as long as it takes.
    app.conf.broker_transport_options = app.conf.broker_transport_options | {"socket_timeout": None}
    app.conf.task_queues = [
        Queue(queue_name(model))  # type: ignore[no-untyped-call]
        for model in transcriptions
    ]
    register_tasks(app, transcriptions, tickets)

    def stop_claiming(**_: object) -> None:
        tickets.stop()
        for transcription in transcriptions.values():
            transcription.pumps.stop()

    def begin(**_: object) -> None:
        wakes.start()
        # What waits already may have been called for long ago.
        for transcription in transcriptions.values():
            transcription.pumps.wake()

    # Nothing is claimed before Celery has taken the signals over: what is claimed must be given back at the end.
    worker_ready.connect(begin, weak=False)
    worker_shutting_down.connect(stop_claiming, weak=False)
    # Celery would set the level of the root logger to its own, and nothing that is told below a warning would be seen.
    setup_logging.connect(_leave_the_log_alone, weak=False)
    celery_worker = app.Worker(
        pool_cls="threads",
        concurrency=tickets.threads,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    celery_worker.start()
    return int(celery_worker.exitcode or 0)


def _leave_the_log_alone(**_: object) -> None:
    """`configure_logging` has set it up."""


def _drop(transcriptions: Mapping[str, Transcription], image_id: str) -> None:
    for transcription in transcriptions.values():
        transcription.drop([image_id])


if __name__ == "__main__":
    main()
