"""Delivers webhooks: one thread claims what is due, and each request has a thread of its own while it lasts."""

from __future__ import annotations

import threading
import time

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import Counter, Histogram

from core.delivery_claims import AttemptResult, ClaimedDelivery, claim_deliveries, report
from core.errors import Unavailable
from core.notices import WEBHOOKS_DUE, Listener
from core.tracing import span
from worker.webhook_request import WebhookSender

#: Requests at once; each holds a thread that mostly waits.
_REQUESTS = 64
#: The part of them that receivers in trouble may hold: the others always find a thread.
_REQUESTS_IN_TROUBLE = 24
#: Looked for so often without a notice: retries become due, and notices may be lost.
_LOOK_EVERY_S = 0.5
#: Looked for at most so often: notices that come thick and fast are heard together.
_PAUSE_S = 0.01
_RETRY_S = 0.5
#: Receivers whose trouble is remembered; forgetting one costs a slot for one attempt.
_MOST_TROUBLED = 10_000

_ATTEMPTS = Counter("inkqueue_webhook_attempts", "Requests to receivers, by outcome.", ["outcome"])
# Told as 0 from the start: of a series that begins with its first event, Prometheus sees no increase.
for _outcome in ("delivered", "failed"):
    _ATTEMPTS.labels(_outcome)
_SECONDS = Histogram("inkqueue_webhook_seconds", "Time of a request to a receiver.")

_log = structlog.get_logger(__name__)


class Deliverer:
    """The deliveries of one courier."""

    def __init__(self) -> None:
        self._sender = WebhookSender()
        self._due = threading.Event()
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        #: Deliveries under way, and which of them are to receivers in trouble.
        self._under_way: dict[str, ClaimedDelivery] = {}
        #: Receivers whose last attempt failed; in the order in which that became known.
        self._troubled: dict[str, None] = {}
        self._listener = Listener(WEBHOOKS_DUE, lambda _: self._due.set())
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._listener.start()
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Claim nothing more, and wait so long for what is under way; the rest is delivered by the next courier."""
        self._stopped.set()
        self._due.set()
        self._listener.stop()
        deadline = time.monotonic() + timeout_s
        self._thread.join(timeout_s)
        with self._changed:
            done = self._changed.wait_for(lambda: not self._under_way, max(0.0, deadline - time.monotonic()))
        if done:
            self._sender.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._due.wait(_LOOK_EVERY_S)
            self._due.clear()
            try:
                self._claim_all()
            except Unavailable as exc:
                _log.warning("deliveries wait for the database", error=exc.message)
                self._stopped.wait(_RETRY_S)
            except Exception:
                # Outer edge of the thread: whatever one look met, the next may succeed.
                _log.exception("deliveries could not be claimed")
                self._stopped.wait(_RETRY_S)
            self._stopped.wait(_PAUSE_S)

    def _claim_all(self) -> None:
        for in_trouble in (False, True):
            with self._changed:
                troubled = list(self._troubled)
                most = _REQUESTS - len(self._under_way)
                if in_trouble:
                    held = sum(delivery.target in self._troubled for delivery in self._under_way.values())
                    most = min(most, _REQUESTS_IN_TROUBLE - held)
            if self._stopped.is_set():
                return
            if in_trouble and not troubled:
                continue
            for delivery in claim_deliveries(most=most, troubled=troubled, in_trouble=in_trouble):
                with self._changed:
                    self._under_way[delivery.id] = delivery
                threading.Thread(target=self._deliver, args=(delivery,), name=delivery.id, daemon=True).start()

    def _deliver(self, delivery: ClaimedDelivery) -> None:
        try:
            result = self._attempted(delivery)
            _ATTEMPTS.labels("failed" if result.error else "delivered").inc()
            _SECONDS.observe(result.latency_ms / 1000)
            self._remember(delivery, failed=result.error is not None)
            self._report(delivery, result)
        finally:
            with self._changed:
                self._under_way.pop(delivery.id, None)
                self._changed.notify_all()
            # Its receiver can be sent the next one.
            self._due.set()

    def _attempted(self, delivery: ClaimedDelivery) -> AttemptResult:
        about: dict[str, str | int] = {
            "inkqueue.delivery": delivery.id,
            "inkqueue.event": delivery.event,
            "inkqueue.attempt": delivery.attempt,
        }
        with span("webhook", SpanKind.CLIENT, parent=delivery.origin.traceparent, attributes=about) as sending:
            try:
                result = self._sender.attempt(delivery)
            except Exception as exc:
                # Outer edge of the attempt: what nobody foresaw is a failure like any other, and is tried again.
                _log.exception("an attempt of a webhook failed", delivery=delivery.id)
                result = AttemptResult(latency_ms=0, error=f"the request failed: {type(exc).__name__}")
            if result.status_code is not None:
                sending.set_attribute("http.response.status_code", result.status_code)
            if result.error is not None:
                sending.set_status(StatusCode.ERROR, _unanswered(result))
            return result

    def _report(self, delivery: ClaimedDelivery, result: AttemptResult) -> None:
        try:
            report(delivery, result)
        except Unavailable as exc:
            # Its claim runs out, and it is sent once more under the same id.
            _log.warning("how a webhook went could not be written", delivery=delivery.id, error=exc.message)
        except Exception:
            _log.exception("how a webhook went could not be written", delivery=delivery.id)
        else:
            _log.info(
                "webhook",
                delivery=delivery.id,
                job=delivery.job_id,
                **delivery.origin.log_fields(),
                webhook_event=delivery.event,
                attempt=delivery.attempt,
                status=result.status_code,
                error=_unanswered(result),
                ms=result.latency_ms,
            )

    def _remember(self, delivery: ClaimedDelivery, *, failed: bool) -> None:
        with self._changed:
            self._troubled.pop(delivery.target, None)
            if failed:
                self._troubled[delivery.target] = None
                if len(self._troubled) > _MOST_TROUBLED:
                    self._troubled.pop(next(iter(self._troubled)))


def _unanswered(result: AttemptResult) -> str | None:
    """Why there was no answer. What an answer says is its status: a redirect may repeat an address that is a secret."""
    return result.error if result.status_code is None else None
