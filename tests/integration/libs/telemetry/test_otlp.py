"""Spans and metrics of a process reach a collector, the last batch at its end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import grpc
import pytest_asyncio
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

PROGRAM = """
import os
from libs.telemetry import metrics, tracing
stops = [tracing.start("test", os.environ), metrics.start("test", "", os.environ)]
metrics.meter().create_counter("darkroom_things").add(3)
with tracing.tracer().start_as_current_span("thing"):
    print(tracing.current_traceparent())
for stop in stops:
    stop()
"""


class Collector(trace_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer):
    """Keeps the names of what it is sent, with the service they come from."""

    def __init__(self) -> None:
        self.names: set[tuple[str, str]] = set()

    async def Export(self, request, _context):
        if isinstance(request, trace_pb.ExportTraceServiceRequest):
            for resource in request.resource_spans:
                spans = [span for scope in resource.scope_spans for span in scope.spans]
                self._keep(resource.resource, [span.name for span in spans])
            return trace_pb.ExportTraceServiceResponse()
        for resource in request.resource_metrics:
            found = [metric for scope in resource.scope_metrics for metric in scope.metrics]
            self._keep(resource.resource, [metric.name for metric in found])
        return metrics_pb.ExportMetricsServiceResponse()

    def _keep(self, resource, names: list[str]) -> None:
        services = [a.value.string_value for a in resource.attributes if a.key == "service.name"]
        self.names |= {(services[0], name) for name in names}


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    server, servicer = grpc.aio.server(), Collector()
    trace_grpc.add_TraceServiceServicer_to_server(servicer, server)
    metrics_grpc.add_MetricsServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    await server.stop(0)


async def run(environ: dict[str, str]) -> str:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, env={**os.environ, **environ}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode == 0
    return out.decode().strip()


async def test_both_arrive_before_the_process_ends(collector: tuple[Collector, str]) -> None:
    servicer, endpoint = collector
    assert await run({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    assert {("darkroom-test", "thing"), ("darkroom-test", "darkroom_things")} <= servicer.names


async def test_without_an_endpoint_nothing_is_traced() -> None:
    assert await run({}) == ""
