"""The bounds of one address, kept by the real Envoy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import httpx
import pytest
import pytest_asyncio

from darkroom.v1 import generation_service_pb2 as api
from darkroom.v1 import generation_service_pb2_grpc as api_grpc
from libs.testing import rest
from services.gateway.envoy import bursts
from tests.integration.services.gateway.edge import Edge, running_edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Slow refills: what is counted below is the burst alone, however long a busy machine takes.
BOUNDS = (
    "strangers_per_s=0.02,strangers_burst=5,keyed_per_s=0.02,keyed_burst=12,reads_per_min=20,flood_per_s=0.02,flood_burst=60",
    "--trusted-hops",
    "1",
)
CREATIONS = [
    asked.path for asked in rest.operations() if asked.method == "POST" and re.fullmatch(bursts.CREATING, asked.path)
]
KEY = {"authorization": "Bearer dk_one"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge() -> AsyncIterator[Edge]:
    async with running_edge(flags=("--bursts", *BOUNDS)) as running:
        yield running


@asynccontextmanager
async def caller(edge: Edge, address: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(base_url=edge.url, transport=transport, timeout=10) as client:
        yield client


async def test_a_stranger_creates_five_at_once_and_reads_on(edge: Edge) -> None:
    async with caller(edge, "127.0.0.2") as client:
        answers = [await client.post("/v1/jobs", content=b"{}") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [202] * 5 + [429] * 2
        refused = answers[-1]
        assert (refused.headers["content-type"], refused.headers["retry-after"]) == ("application/json", "1")
        assert (refused.json()["code"], refused.json()["details"][0]["reason"]) == (8, "RPM_EXHAUSTED")
        assert "without a key" in refused.json()["message"]
        assert (await client.get("/v1/jobs/job_1")).status_code == 202  # reading is counted apart


async def test_another_address_and_whoever_has_a_key_are_not_touched(edge: Edge) -> None:
    async with caller(edge, "127.0.0.3") as loud, caller(edge, "127.0.0.4") as neighbour:
        while (await loud.post("/v1/uploads", content=b"{}")).status_code != 429:
            pass
        assert (await neighbour.post("/v1/jobs", content=b"{}")).status_code == 202
        answers = [await loud.post("/v1/jobs", content=b"{}", headers=KEY) for _ in range(13)]
        assert [answer.status_code for answer in answers] == [202] * 12 + [429]
        assert "without a key" not in answers[-1].json()["message"]


async def test_an_estimate_takes_a_tenth_of_a_creation(edge: Edge) -> None:
    async with caller(edge, "127.0.0.5") as client:
        estimates = [(await client.post("/v1/jobs:estimate", content=b"{}")).status_code for _ in range(10)]
        assert estimates == [200] * 10
        created = [(await client.post("/v1/jobs", content=b"{}")).status_code for _ in range(5)]
        assert created == [202] * 4 + [429]


async def test_reads_have_a_budget_of_their_own_by_address_and_key(edge: Edge) -> None:
    async with caller(edge, "127.0.0.6") as client:
        paths = ("/v1/jobs/job_1", "/v1/jobs?page_size=1")
        answers = [await client.get(paths[n % 2]) for n in range(21)]
        assert {answer.status_code for answer in answers[:20]} <= {200, 202}
        assert answers[-1].status_code == 429
        assert "read too often" in answers[-1].json()["message"]
        assert (await client.post("/v1/jobs", content=b"{}")).status_code == 202
        assert (await client.get("/v1/jobs/job_1", headers=KEY)).status_code == 202
        keyed = [(await client.get("/v1/jobs/job_1", headers=KEY)).status_code for _ in range(20)]
        assert keyed == [202] * 19 + [429]
        other = {"authorization": "Bearer dk_two"}
        assert (await client.get("/v1/jobs/job_1", headers=other)).status_code == 202


async def test_a_key_has_one_budget_from_wherever_it_comes(edge: Edge) -> None:
    key = {"authorization": "Bearer dk_everywhere"}
    async with caller(edge, "127.0.0.10") as one, caller(edge, "127.0.0.11") as other:
        created = [
            (await client.post("/v1/jobs", content=b"{}", headers=key)).status_code for client in [one, other] * 6
        ]
        assert created == [202] * 12
        assert (await other.post("/v1/jobs", content=b"{}", headers=key)).status_code == 429
        assert (await other.get("/v1/jobs/job_1", headers=key)).status_code == 202


async def test_wrong_keys_take_nothing_from_whoever_has_a_good_one_behind_the_same_address(edge: Edge) -> None:
    async with caller(edge, "127.0.0.12") as client:
        for n in range(30):
            answer = await client.post("/v1/jobs", content=b"{}", headers={"authorization": f"Bearer junk{n}"})
            assert answer.status_code == 401
        good = {"authorization": "Bearer dk_honest"}
        answers = [await client.post("/v1/jobs", content=b"{}", headers=good) for _ in range(13)]
        assert [answer.status_code for answer in answers] == [202] * 12 + [429]
        assert "with this key" in answers[-1].json()["message"]


async def test_ever_new_keys_do_not_pass_the_flood_bound_of_an_address(edge: Edge) -> None:
    async with caller(edge, "127.0.0.13") as client:
        statuses = [
            (await client.get("/v1/models", headers={"authorization": f"Bearer junk{n}"})).status_code
            for n in range(62)
        ]
        assert statuses == [401] * 60 + [429] * 2
        refused = await client.get("/v1/models", headers=KEY)
        assert "from this address" in refused.json()["message"]


@pytest.mark.parametrize("path", CREATIONS)
async def test_a_slash_behind_the_path_gains_nothing(edge: Edge, path: str) -> None:
    async with caller(edge, f"127.0.0.{100 + CREATIONS.index(path)}") as client:
        ends = ("", "/", "//", "/?", "//?", "/", "//")
        statuses = [(await client.post(path + end, content=b"{}")).status_code for end in ends]
        assert 429 not in statuses[:5]
        assert statuses[5:] == [429, 429]


async def test_health_and_liveness_are_never_refused(edge: Edge) -> None:
    async with caller(edge, "127.0.0.7") as client:
        for _ in range(25):
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/healthz")).status_code == 200


async def test_a_grpc_caller_is_refused_in_grpc(edge: Edge) -> None:
    # gRPC cannot choose its own address; the proxy before the door says which one it is.
    metadata = [("x-forwarded-for", "203.0.113.50")]
    async with grpc.aio.insecure_channel(edge.envoy.address) as channel:
        jobs = api_grpc.GenerationServiceStub(channel)
        for _ in range(5):
            await jobs.CreateJob(api.CreateJobRequest(), metadata=metadata, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await jobs.CreateJob(api.CreateJobRequest(), metadata=metadata, timeout=10)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(refused.value.trailing_metadata() or ())["retry-after"] == "1"
        await jobs.GetJob(api.GetJobRequest(id="job_1"), metadata=metadata, timeout=10)


async def test_only_the_trusted_proxy_is_believed(edge: Edge) -> None:
    async with caller(edge, "127.0.0.8") as proxy:
        # The proxy appends whom it saw; what stands before that its caller wrote.
        told = lambda n: {"x-forwarded-for": f"198.51.100.{n}, 203.0.113.9"}  # noqa: E731
        answers = await asyncio.gather(*(proxy.post("/v1/jobs", content=b"{}", headers=told(n)) for n in range(8)))
        assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 3
        assert client_told(edge) == "203.0.113.9"


async def test_without_a_trusted_proxy_the_header_gains_nothing() -> None:
    async with running_edge(flags=("--bursts", BOUNDS[0])) as edge, caller(edge, "127.0.0.9") as client:
        answers = [
            await client.post(
                "/v1/jobs",
                content=b"{}",
                headers={"x-forwarded-for": f"198.51.100.{n}", "x-darkroom-client": "1.1.1.1"},
            )
            for n in range(6)
        ]
        assert [answer.status_code for answer in answers] == [202] * 5 + [429]
        assert client_told(edge) == "127.0.0.9"


def client_told(edge: Edge) -> str:
    assert edge.asked.check is not None
    return edge.asked.check.attributes.request.http.headers["x-darkroom-client"]
