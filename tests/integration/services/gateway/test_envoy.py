"""The real Envoy with its real configuration, between a caller and stand-ins that write down what reaches them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc

from darkroom.v1 import generation_service_pb2 as api
from darkroom.v1 import generation_service_pb2_grpc as api_grpc
from darkroom.v1 import job_pb2
from tests.integration.services.gateway.edge import TOKEN, Edge, running_edge, started

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPEN_PATHS = ("/v1/blobs/ab.png?e=1&k=k1&s=x", "/healthz", "/")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge() -> AsyncIterator[Edge]:
    async with running_edge() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=edge.url, timeout=10) as client:
        yield client


async def test_create_reaches_the_gateway_byte_exact_and_answers_202(edge: Edge, caller: httpx.AsyncClient) -> None:
    outside = {"x-darkroom-tenant": "victim", "X-Darkroom-Mesh-Token": "guess", "x-darkroom-anything": "1"}
    answer = await caller.post("/v1/jobs", content=b'{"prompt": "x"}', headers=outside)
    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/jobs/job_1"
    assert answer.json()["state"] == "QUEUED"
    assert answer.json()["images"] == []
    assert answer.headers["x-request-id"]
    assert answer.headers["x-ratelimit-limit-requests"] == "60"
    assert not [name for name in answer.headers if name.startswith("grpc-")]
    assert edge.gateway.seen["x-darkroom-tenant"] == "t"
    assert edge.gateway.seen["x-darkroom-mesh-token"] == TOKEN
    assert "x-darkroom-anything" not in edge.gateway.seen
    assert edge.asked.metadata["x-darkroom-mesh-token"] == TOKEN


async def test_an_error_of_the_gateway_keeps_its_details(caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/v1/jobs", content=b"bad")
    assert answer.status_code == 400
    details = {d["@type"].rpartition(".")[2]: d for d in answer.json()["details"]}
    assert details["ErrorInfo"]["reason"] == "INVALID_REQUEST"
    assert details["BadRequest"]["field_violations"][0]["field"] == "width"


async def test_a_custom_verb_and_events_pass(caller: httpx.AsyncClient) -> None:
    cancelled = await caller.post("/v1/jobs/job_9:cancel")
    assert (cancelled.status_code, cancelled.json()["id"]) == (200, "job_9")
    events = await caller.get("/v1/jobs/job_9/events")
    assert events.headers["content-type"] == "text/event-stream"
    assert events.text == "event: queued\nid: 1\ndata: {}\n\n: keepalive\n\n"


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "reason"),
    [
        ("GET", "/nothing", 404, 5, "NOT_FOUND"),
        ("GET", "/v1/nothing", 404, 5, "NOT_FOUND"),
        ("PUT", "/v1/jobs", 404, 5, "NOT_FOUND"),
        ("GET", "/v1/jobs/job_1?surprise=1", 400, 3, "INVALID_REQUEST"),
        ("POST", "/darkroom.scheduler.v1.SchedulerService/Submit", 404, 5, "NOT_FOUND"),
    ],
)
async def test_envoys_own_refusals_have_our_shape(
    caller: httpx.AsyncClient, method: str, path: str, status: int, code: int, reason: str
) -> None:
    answer = await caller.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert (answer.json()["code"], answer.json()["details"][0]["reason"]) == (code, reason)
    assert answer.json()["message"]
    assert answer.headers["x-request-id"]


async def test_a_large_body_is_refused_in_our_shape(caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/v1/jobs", content=b"x" * 2_000_000)
    assert answer.status_code == 413
    assert answer.json()["details"][0]["reason"] == "REQUEST_TOO_LARGE"
    assert answer.headers["x-request-id"]


async def test_without_the_limiter_nobody_is_let_in() -> None:
    async with running_edge() as edge, httpx.AsyncClient(base_url=edge.url, timeout=10) as caller:
        await edge.limiter.stop(0)
        answer = await caller.get("/v1/jobs/job_1")
        assert answer.status_code == 503
        assert answer.json()["details"][0]["reason"] == "LIMITER_DEGRADED"
        assert answer.headers["retry-after"] == "1"
        assert edge.gateway.seen == {}
        assert (await caller.get("/livez")).status_code == 200


async def test_without_the_limiter_links_health_and_page_still_work() -> None:
    async with running_edge() as edge, httpx.AsyncClient(base_url=edge.url, timeout=10) as caller:
        for path in OPEN_PATHS:
            assert (await caller.get(path)).headers["x-ratelimit-limit-requests"] == "60"
        await edge.limiter.stop(0)
        for path in OPEN_PATHS:
            answer = await caller.get(path, headers={"x-darkroom-tenant": "victim"})
            assert (answer.status_code, answer.text) == (200, "here")
            assert "x-darkroom-tenant" not in edge.gateway.seen


async def test_native_grpc_sees_grpc_only(edge: Edge) -> None:
    async with grpc.aio.insecure_channel(edge.envoy.address) as channel:
        call = api_grpc.GenerationServiceStub(channel).GetJob(api.GetJobRequest(id="job_7"), timeout=10)
        assert (await call).id == "job_7"
        metadata = dict(await call.initial_metadata())
        assert metadata["x-ratelimit-remaining-requests"] == "41"
        assert "x-http-code" not in metadata
        nothing = channel.unary_unary("/darkroom.scheduler.v1.SchedulerService/Submit")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await nothing(b"", timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_grpc_web_passes(caller: httpx.AsyncClient) -> None:
    message = api.GetJobRequest(id="job_8").SerializeToString()
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    answer = await caller.post(
        "/darkroom.v1.GenerationService/GetJob",
        content=frame,
        headers={"content-type": "application/grpc-web+proto", "origin": "http://page.example"},
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://page.example"
    length = int.from_bytes(answer.content[1:5], "big")
    assert job_pb2.Job.FromString(answer.content[5 : 5 + length]).id == "job_8"
    assert b"grpc-status:0" in answer.content[5 + length :]


async def test_the_access_log_holds_no_query_and_no_key(edge: Edge, caller: httpx.AsyncClient) -> None:
    await caller.get("/v1/jobs/dk_ABCDEFGH_aaaaaaaaaaaaaaaaaaaaaaaaaaaa-secret-of-a-key")
    await caller.get("/v1/jobs/job_1/events?token=secret-of-a-link")
    async with asyncio.timeout(20):
        while "/v1/jobs/job_1/events" not in logged_paths(edge):
            await caller.get("/nothing")
    assert "secret-of-a" not in edge.envoy.log


async def test_headers_too_large_are_refused_in_our_shape(edge: Edge, caller: httpx.AsyncClient) -> None:
    fits = await caller.get("/v1/jobs/job_1", headers={"authorization": "Bearer dk_" + "a" * 12_000})
    assert fits.status_code == 202
    answer = await caller.get("/v1/jobs/job_1", headers={"authorization": "Bearer dk_" + "a" * 17_000})
    assert answer.status_code == 431
    assert answer.json()["details"][0]["reason"] == "INVALID_REQUEST"
    assert "16 KiB" in answer.json()["message"]
    async with grpc.aio.insecure_channel(edge.envoy.address) as channel:
        jobs = api_grpc.GenerationServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs.GetJob(api.GetJobRequest(id="job_7"), metadata=[("x-long", "a" * 17_000)], timeout=10)
        assert (await jobs.GetJob(api.GetJobRequest(id="job_7"), timeout=10)).id == "job_7"
    assert refused.value.code() == grpc.StatusCode.INTERNAL  # HTTP/2 has no words for it; the connection goes on


class Collector(collector_grpc.TraceServiceServicer):
    """Keeps every span, as text."""

    def __init__(self) -> None:
        self.spans, self.more = "", asyncio.Event()

    async def Export(self, request, _context):
        self.spans += str(request)
        self.more.set()
        return collector_pb2.ExportTraceServiceResponse()


async def test_spans_hold_no_signature_or_token() -> None:
    collector, server = Collector(), grpc.aio.server()
    collector_grpc.add_TraceServiceServicer_to_server(collector, server)
    async with running_edge(await started(server)) as edge, httpx.AsyncClient(base_url=edge.url) as caller:
        await caller.get("/v1/jobs/job_01JD0000000000000000000000/events?token=secret-of-a-link")
        await caller.get(f"/v1/blobs/{'ab' * 32}.png?e=1&k=k1&s=secret-of-a-link")
        await caller.get("/v1/jobs?dk_secret-of-a-key")
        await caller.get("/v1/jobs/dk_ABCDEFGH_aaaaaaaaaaaaaaaaaaaaaaaaaaaa-secret-of-a-key")
        await caller.get("/", headers={"authorization": "Bearer dk_secret-of-a-key"})
        async with asyncio.timeout(20):
            while "/v1/jobs/job_01JD" not in collector.spans or "/v1/blobs/abab" not in collector.spans:
                collector.more.clear()
                await collector.more.wait()
    await server.stop(0)
    assert "secret-of-a" not in collector.spans


def logged_paths(edge: Edge) -> set[str]:
    whole_lines = edge.envoy.log.rpartition("\n")[0].splitlines()
    return {json.loads(line)["path"] for line in whole_lines if line.startswith("{")}
