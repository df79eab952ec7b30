"""OpenTelemetry traces: on when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, off otherwise.

The trace context travels in gRPC metadata by itself; a job carries it as `traceparent` in its row, so a
restarted scheduler goes on in the same trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_FLUSH_DELAY_MS = 500
_EXPORT_TIMEOUT_S = 1.0


def resource(service: str) -> Resource:
    """Return what every span and metric of this process carries."""
    return Resource.create({"service.name": f"darkroom-{service}", "service.namespace": "darkroom"})


def start(service: str, environ: Mapping[str, str]) -> Callable[[], None]:
    """Begin to export spans when an endpoint is set; call the result at the end, or the last batch is lost."""
    if not environ.get(ENDPOINT):
        return _nothing
    provider = TracerProvider(resource=resource(service))
    exporter = OTLPSpanExporter(timeout=export_timeout_s(environ))  # all else comes from the standard variables
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_FLUSH_DELAY_MS))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def export_timeout_s(environ: Mapping[str, str]) -> float | None:
    """Return how long one export may take; short unless the standard variable says so, for it delays every stop."""
    return None if environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else _EXPORT_TIMEOUT_S


def recorded() -> bool:
    """Return whether spans of this process are recorded; ask after `start`."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def tracer() -> trace.Tracer:
    """Return the tracer of the product's own spans."""
    return trace.get_tracer("darkroom")


def current_traceparent() -> str:
    """Return the W3C traceparent of the span that is running now; empty when nothing is traced."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def context_of(traceparent: str) -> Context:
    """Return the context that continues `traceparent`; an empty one starts a new trace."""
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {}, Context())


def link_to(traceparent: str) -> list[trace.Link]:
    """Return a link to the span of `traceparent`, for a retry."""
    span = trace.get_current_span(context_of(traceparent)).get_span_context()
    return [trace.Link(span)] if span.is_valid else []


@contextmanager
def untraced() -> Iterator[None]:
    """Have nothing inside the block traced, here or by the peers it calls: for what is asked again and again."""
    nobody = trace.SpanContext(1, 1, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.DEFAULT))
    with trace.use_span(trace.NonRecordingSpan(nobody)):
        yield


def record(
    name: str,
    start_s: float,
    end_s: float,
    context: Context,
    events: Sequence[tuple[str, float]] = (),
    **attributes: str | int | float,
) -> None:
    """Write a span that is already over, with what happened in it by name and moment; times in Unix seconds."""
    span = tracer().start_span(name, context=context, start_time=int(start_s * 1e9), attributes=attributes)
    for event, moment in events:
        span.add_event(event, timestamp=int(moment * 1e9))
    span.end(end_time=int(max(start_s, end_s) * 1e9))


def _nothing() -> None:
    return None
