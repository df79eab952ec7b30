"""Receives the spans of a whole stack."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc


@dataclass(frozen=True, slots=True)
class Span:
    """One span; times in Unix seconds, events by name and moment."""

    trace: str
    service: str
    name: str
    start_s: float
    end_s: float
    job_id: str
    events: tuple[tuple[str, float], ...]


class SpanCollector(collector_grpc.TraceServiceServicer):
    """Keeps every span that it is sent."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Span] = []

    def Export(self, request: Any, _context: Any) -> Any:
        """Take some spans."""
        for resource in request.resource_spans:
            (service,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            self.spans += [_read(service, span) for scope in resource.scope_spans for span in scope.spans]
        return collector.ExportTraceServiceResponse()

    def of_job(self, job_id: str, name: str) -> list[Span]:
        """Return a job's spans of a name, in order."""
        found = [span for span in self.spans if (span.job_id, span.name) == (job_id, name)]
        return sorted(found, key=lambda span: span.start_s)


@contextmanager
def collecting() -> Iterator[SpanCollector]:
    """Listen on a free port; its address is `endpoint`."""
    collected, server = SpanCollector(), grpc.server(ThreadPoolExecutor(1))
    collector_grpc.add_TraceServiceServicer_to_server(collected, server)  # type: ignore[no-untyped-call]
    collected.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collected
    finally:
        server.stop(0).wait()


def _read(service: str, span: Any) -> Span:
    jobs = [a.value.string_value for a in span.attributes if a.key == "job_id"]
    events = tuple((event.name, event.time_unix_nano / 1e9) for event in span.events)
    trace, start_s, end_s = span.trace_id.hex(), span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
    return Span(trace, service, span.name, start_s, end_s, "".join(jobs), events)
