"""Traces from a request to its webhook, for OpenTelemetry, where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector.

Without one nothing is recorded, and the trace that a caller began is still passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core.settings import settings

Attributes = Mapping[str, str | int | bool]

_tracer = trace.get_tracer("inkqueue")
#: Source: W3C Trace Context, https://www.w3.org/TR/trace-context/
_format = TraceContextTextMapPropagator()


def configure_tracing(process: str) -> None:
    """Send this process's spans to the collector, if one is named; after a fork, which its thread would not survive."""
    if not settings().otlp_endpoint:
        return
    # Imported here: half a second that a process without a collector need not spend.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.namespace": "inkqueue", "service.name": f"inkqueue-{process}"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, kind: SpanKind, *, parent: str | None, attributes: Attributes) -> Iterator[Span]:
    """A span that is the present one while the block lasts.

    Args:
        name: Of few different values.
        kind: What it is to those on the other side.
        parent: The `traceparent` that it belongs under; None: it begins a trace.
        attributes: What is known at its beginning.
    """
    with _tracer.start_as_current_span(name, context=_context(parent), kind=kind, attributes=attributes) as begun:
        yield begun


def record_span(name: str, *, parent: str | None, began_ns: int, attributes: Attributes) -> None:
    """A span of work that ends now; it began at so many nanoseconds of Unix time."""
    _tracer.start_span(name, context=_context(parent), start_time=began_ns, attributes=attributes).end()


@contextmanager
def under(parent: str | None) -> Iterator[None]:
    """Spans that begin in the block belong under this `traceparent`."""
    with trace.use_span(trace.get_current_span(_context(parent)), end_on_exit=False):
        yield


def traceparent() -> str | None:
    """The present span, as it is told to others; None outside of any trace."""
    carrier: dict[str, str] = {}
    _format.inject(carrier)
    return carrier.get("traceparent")


def trace_id(parent: str | None) -> str | None:
    """The trace that a `traceparent` belongs to, in 32 hexadecimal digits."""
    return parent.split("-")[1] if parent else None


def _context(parent: str | None) -> Context:
    return _format.extract({"traceparent": parent}, Context()) if parent else Context()
