"""One job is one trace through Envoy and all four services, and every listed metric has a value after it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc

from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, http_client

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
SERVICES = {f"darkroom-{name}" for name in ("envoy", "gateway", "ratelimiter", "scheduler", "modelserver")}
STAGES = {"queue", "load", "encode", "denoise", "decode", "store"}


class Collector(collector_grpc.TraceServiceServicer):
    """Keeps (trace id, service, span name) of everything it is sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str]] = []
        self.more = asyncio.Event()

    async def Export(self, request, _context):
        for resource in request.resource_spans:
            names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            spans = [span for scope in resource.scope_spans for span in scope.spans]
            self.spans += [(span.trace_id.hex(), names[0], span.name) for span in spans]
        self.more.set()
        return collector.ExportTraceServiceResponse()

    def traces_of(self, wanted: set[str]) -> list[str]:
        """Return the traces that hold a span of every wanted service."""
        traces = {trace for trace, _, _ in self.spans}
        return [t for t in traces if wanted <= {service for trace, service, _ in self.spans if trace == t}]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[tuple[Collector, str]]:
    server, servicer = grpc.aio.server(), Collector()
    collector_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    await server.stop(0)


@pytest.mark.timeout(180)
async def test_one_job_is_one_trace(receiver: tuple[Collector, str], start_stack: StartStack) -> None:
    servicer, endpoint = receiver
    stack = await asyncio.to_thread(start_stack, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    async with http_client(stack) as client:
        answer = await client.post(
            "/v1/jobs", json={"prompt": "a red circle"}, headers={"prefer": "wait=60"}, timeout=90
        )
    assert answer.json()["state"] == "SUCCEEDED"
    async with asyncio.timeout(60):
        while not (found := servicer.traces_of(SERVICES)) or not names_in(servicer, found[0]) >= STAGES:
            servicer.more.clear()
            await servicer.more.wait()
    assert len(found) == 1


def names_in(servicer: Collector, trace: str) -> set[str]:
    return {name for t, _, name in servicer.spans if t == trace}


def listed() -> dict[str, set[str]]:
    """Return the series of docs/metrics.md by the process that has them; rows marked `gpu` need a device."""
    rows = re.findall(r"^\| `(darkroom_\w+)` \| (\w+) \|[^|]*\|[^|]*\|[^|]*\| ?(\w*) ?\|", METRICS.read_text(), re.M)
    series: dict[str, set[str]] = {}
    for name, process, where in rows:
        if where != "gpu":
            series.setdefault(process, set()).add(name)
    return series


async def test_every_listed_series_has_a_value_after_one_job(stack: RunningStack, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"prompt": "a red circle"}, headers={"prefer": "wait=60"}, timeout=90)
    assert answer.json()["state"] == "SUCCEEDED"
    await client.post("/v1/jobs", json={})
    await client.get("/v1/jobs", headers={"authorization": "Bearer dk_nobody00_" + "x" * 43})
    series = listed()
    assert set(series) == {"gateway", "ratelimiter", "scheduler", "modelserver"}
    for process, names in series.items():
        name = "modelserver-0" if process == "modelserver" else process
        async with asyncio.timeout(30):
            missing = names
            while missing:
                text = (await client.get(f"http://{stack.addresses['metrics'][name]}/metrics")).text
                missing = {n for n in names if not re.search(rf"^{n}(_bucket|_total)?[{{ ]", text, re.M)}
