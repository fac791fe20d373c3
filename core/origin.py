"""Where work comes from: the request and the trace that it began with, carried with a job to its last webhook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass

from core import tracing

_request_id: ContextVar[str | None] = ContextVar("inkqueue_request_id", default=None)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What ties a log line or a span to the request that caused it."""

    request_id: str | None = None
    #: W3C Trace Context of the span that it belongs under.
    traceparent: str | None = None

    @classmethod
    def here(cls) -> Origin:
        """That of what this thread does now."""
        return cls(request_id=_request_id.get(), traceparent=tracing.traceparent())

    @classmethod
    def read(cls, stored: Mapping[str, str | None] | None) -> Origin:
        """As it was stored with a job."""
        return cls(**stored) if stored else cls()

    def to_store(self) -> dict[str, str | None]:
        """As it is stored with a job."""
        return asdict(self)

    def log_fields(self) -> dict[str, str]:
        """What a log line says of it."""
        fields = {"request": self.request_id, "trace": tracing.trace_id(self.traceparent)}
        return {name: value for name, value in fields.items() if value}

    @contextmanager
    def continued(self) -> Iterator[None]:
        """What is done in the block has this origin."""
        token = _request_id.set(self.request_id)
        try:
            with tracing.under(self.traceparent):
                yield
        finally:
            _request_id.reset(token)


def begin_request(request_id: str) -> None:
    """What this thread does from now on is for this request, until the next one begins."""
    _request_id.set(request_id)
