"""Spans of OpenTelemetry, sent over OTLP (HTTP). Imported only when traces are on.

Endpoint, headers, sampling, limits and the service's name are read by OpenTelemetry's SDK itself
from the standard variables ``OTEL_…``. No span has the name of an account, a value of a statement
or the message of an error, which may hold personal data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from iredapi.observability.spans import Attributes


class OtelTracer:
    """See ``spans.Tracer``."""

    def __init__(self, version: str) -> None:
        own = Resource({"service.name": "iredapi", "service.version": version})
        # What the operator has named comes first.
        chosen = own.merge(OTELResourceDetector().detect())
        resource = Resource.create({**chosen.attributes, "process.pid": os.getpid()})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("iredapi", version)
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what is left. Blocks."""
        self._provider.shutdown()

    def log_fields(self) -> Mapping[str, str]:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }

    def here(self) -> SpanContext | None:
        span = trace.get_current_span()
        return span.get_span_context() if span.is_recording() else None

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Span]:
        span = self._tracer.start_span(
            method,
            context=self._propagator.extract(headers, Context()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
        )
        with _current(span):
            yield span

    def describe(self, span: Span, name: str, attributes: Attributes, *, failed: bool) -> None:
        """Complete the span of a request at its end; empty attributes are left out."""
        span.update_name(name)
        span.set_attributes({key: value for key, value in attributes.items() if value})
        if failed:
            span.set_status(StatusCode.ERROR)

    @contextmanager
    def span(
        self, name: str, attributes: Attributes | None = None, *, client: bool = False
    ) -> Iterator[Span | None]:
        if not trace.get_current_span().is_recording():
            yield None
            return
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        span = self._tracer.start_span(name, kind=kind, attributes=attributes)
        with _current(span):
            yield span

    @contextmanager
    def batch(self, kind: str, members: Sequence[SpanContext | None]) -> Iterator[Span | None]:
        sampled = [member for member in members if member is not None]
        if not sampled:
            yield None
            return
        # In the trace of its first member; the others are found by their links.
        parent = trace.set_span_in_context(NonRecordingSpan(sampled[0]), Context())
        span = self._tracer.start_span(
            f"batch of {kind}",
            context=parent,
            attributes={"iredapi.batch.items": len(members)},
            links=[Link(member) for member in sampled],
        )
        with _current(span):
            yield span

    def ended(self, name: str, attributes: Attributes, seconds: float, error: str = "") -> None:
        if not trace.get_current_span().is_recording():
            return
        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=end - int(seconds * 1e9),
        )
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def began(self, name: str, start: int, end: int) -> None:
        if trace.get_current_span().is_recording():
            self._tracer.start_span(name, start_time=start).end(end)


@contextmanager
def _current(span: Span) -> Iterator[None]:
    """Make a span the current one, and end it. The type of an error is noted, not its message."""
    with trace.use_span(
        span, end_on_exit=True, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield
        except BaseException as error:
            if span.is_recording():
                _note(span, error)
            raise


def _note(span: Span, error: BaseException) -> None:
    status = getattr(error, "status", None)
    if isinstance(status, int):  # ApiError: refusals are no faults of the service
        span.set_attribute("error.type", str(getattr(error, "code", "")))
        if status < 500:
            return
    else:
        span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR)
