"""Callers without a key, from the browser to the ledger: real Envoy, real gateway and rate limiter, a fake scheduler."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio

from darkroom.v1.generation_service_pb2 import GetJobRequest
from darkroom.v1.generation_service_pb2_grpc import GenerationServiceStub
from libs import secret_files
from libs.blobs.memory import MemoryBlobs
from libs.clients.limiter import LimiterClient, Settlement
from libs.clients.limiter_admin import LimiterAdminClient
from libs.clients.scheduler import SchedulerClient
from libs.clock import SystemClock
from libs.errors import LimitExceeded
from libs.ids import JobId, KeyId, TenantId
from libs.rpc.channel import open_channel
from libs.rpc.server import RpcServer
from libs.rpc.status import from_rpc_error
from libs.signing import Signer
from libs.testing.clock import ManualClock
from libs.testing.envoy import EnvoyServer
from services.gateway.app import SERVICES, Gateway
from services.ratelimiter.app import running
from services.ratelimiter.settings import Settings
from services.ratelimiter.strangers import ages
from services.ratelimiter.strangers.cookies import NAME, Cookies, Visitor
from services.ratelimiter.strangers.pseudonyms import Pseudonyms
from services.ratelimiter.tiers import policy
from tests.integration.services.gateway.peers import MESH, FakeScheduler

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHIPPED = policy.SHIPPED.read_text()
MACHINE = "127.0.0.9"
MINUTE, NO_MINUTE = (f"requests_per_minute = {n}\nrequests_burst = {n}" for n in (5, 6000))


@dataclass
class Edge:
    """A door on this machine; callers choose their address of 127.0.0.0/8."""

    url: str
    scheduler: FakeScheduler
    limiter: LimiterClient
    admin: LimiterAdminClient
    clock: ManualClock
    cookies: Cookies
    pseudonyms: Pseudonyms

    def kept_since_yesterday(self) -> str:
        """Return the cookie of a visitor who is not new."""
        visitor = Visitor(ages.new_id(self.clock.now() - 86_400))
        return self.cookies.header(visitor, "127.0.0.0/24", secure=False)[1].partition(";")[0].partition("=")[2]

    @asynccontextmanager
    async def browser(self, address: str) -> AsyncIterator[Browser]:
        transport = httpx.AsyncHTTPTransport(local_address=address)
        async with httpx.AsyncClient(base_url=self.url, transport=transport, timeout=30) as client:
            yield Browser(self, client, address)


@dataclass
class Browser:
    """A caller who keeps cookies until told otherwise."""

    edge: Edge
    client: httpx.AsyncClient
    address: str

    @property
    def asked_as(self) -> str:
        """The tenant of the last job that came through."""
        return self.edge.scheduler.requests[-1].tenant_id

    @property
    def at_address(self) -> str:
        """The tenant of all who have no cookie there."""
        return "anon:" + self.edge.pseudonyms.of(self.address)

    async def draw(self, images: int = 1, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Ask for pictures and have them drawn at once."""
        body = json.dumps({"prompt": "a", "images": images})
        answer = await self.client.post("/v1/jobs", content=body, headers=headers)
        if answer.status_code == 202:
            asked = self.edge.scheduler.requests[-1]
            await self.edge.limiter.settle(
                Settlement(
                    JobId(asked.job_id),
                    TenantId(asked.tenant_id),
                    asked.tier,
                    KeyId(asked.key_id),
                    reserved_units=asked.estimated_units,
                    actual_units=0.0,
                    charged_units=0.0,
                    images=images,
                    model_version=asked.model_version,
                    outcome="succeeded",
                    gpu_ms=1.0,
                    address=asked.address,
                )
            )
        return answer

    async def many(self, images: int) -> None:
        """Get so many pictures, two at a time."""
        for _ in range(images // 2):
            answer = await self.draw(2)
            assert answer.status_code == 202, answer.text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    data, clock, scheduler = tmp_path_factory.mktemp("strangers"), ManualClock(), FakeScheduler()
    async with AsyncExitStack() as stack:
        limiter = await stack.enter_async_context(running(prepared(data), clock))
        peer = await scheduler.serve()
        operator = secret_files.read_token(data / "secrets", secret_files.OPERATOR_TOKEN)
        to_scheduler, to_limiter = [
            await stack.enter_async_context(open_channel(f"127.0.0.1:{port}", mesh_token=MESH, operator_token=operator))
            for port in (peer.port, limiter.port)
        ]
        client, front = LimiterClient(to_limiter), RpcServer("127.0.0.1:0", mesh_token=MESH)
        keys = secret_files.read_signing_keys(data / "secrets")
        gateway = Gateway(SchedulerClient(to_scheduler), client, MemoryBlobs(), keys, SystemClock())
        gateway.add_to(front.grpc)
        await front.start(SERVICES)
        for server in (peer, front):
            stack.push_async_callback(server.grpc.stop, 0)
        stack.callback(asyncio.create_task(gateway.watcher.run()).cancel)
        await gateway.catalog.arrived()
        cookies = Cookies(Signer(secret_files.read_signing_keys(data / "secrets", secret_files.COOKIE_KEYS)))
        names = Pseudonyms(secret_files.read_token(data / "secrets", secret_files.ADDRESS_SECRET))
        upstreams = {"gateway": f"127.0.0.1:{front.port}", "ratelimiter": f"127.0.0.1:{limiter.port}"}
        envoy = await stack.enter_async_context(EnvoyServer(**upstreams, mesh_token=MESH))
        yield Edge(f"http://{envoy.address}", scheduler, client, LimiterAdminClient(to_limiter), clock, cookies, names)


def prepared(data: Path) -> Settings:
    """Return the settings of a rate limiter as shipped, but for the minute: the day is what is counted here."""
    secret_files.ensure(data / "secrets")
    (data / "secrets" / secret_files.MESH_TOKEN).write_text(MESH)
    assert MINUTE in SHIPPED
    (data / "tiers.toml").write_text(SHIPPED.replace(MINUTE, NO_MINUTE))
    (data / "machines").write_text(MACHINE)
    return Settings(data=data, reputation=(str(data / "machines"),))


async def test_the_51st_picture_of_the_day_is_refused_kindly_however_many_cookies(edge: Edge) -> None:
    async with edge.browser("127.0.0.2") as browser:
        await browser.client.get("/")
        await browser.many(48)
        for _ in range(2):  # a new cookie for each
            browser.client.cookies.clear()
            await browser.client.get("/")
            assert (await browser.draw()).status_code == 202
            assert browser.asked_as != browser.at_address
        for forget in (False, True, True):
            if forget:
                browser.client.cookies.clear()
            answer = await browser.draw()
            assert answer.status_code == 429
            assert answer.json()["details"][0]["reason"] == "DAILY_QUOTA_EXHAUSTED"
            told = answer.json()["message"]
            assert "50 free images" in told
            assert "reset at 00:00 UTC" in told
            assert not [word for word in ("block", "ban ", "forbid") if word in told.lower()]
            assert int(answer.headers["retry-after"]) > 0


async def test_one_address_gets_150_a_day_from_visitors_of_yesterday(edge: Edge) -> None:
    async with edge.browser("127.0.0.3") as browser:
        for _ in range(3):
            browser.client.cookies = {NAME: edge.kept_since_yesterday()}
            await browser.many(50)
            assert browser.asked_as.removeprefix("anon:")[:5].isdecimal()
        browser.client.cookies = {NAME: edge.kept_since_yesterday()}
        answer = await browser.draw()
        assert (answer.status_code, "150 free images" in answer.json()["message"]) == (429, True)


async def test_a_header_with_another_address_or_identity_gains_nothing(edge: Edge) -> None:
    async with edge.browser("127.0.0.4") as browser:
        await browser.many(50)
        for number in range(3):
            browser.client.cookies.clear()
            answer = await browser.draw(
                headers={
                    "x-forwarded-for": f"198.51.100.{number}",
                    "x-real-ip": f"198.51.100.{number}",
                    "x-envoy-external-address": f"198.51.100.{number}",
                    "x-darkroom-client": f"198.51.100.{number}",
                    "x-darkroom-address": f"198.51.100.{number}",
                    "x-darkroom-tenant": "acme",
                    "x-darkroom-tier": "enterprise",
                }
            )
            assert answer.status_code == 429


async def test_whoever_has_a_key_at_that_address_is_not_touched(edge: Edge) -> None:
    made = await edge.admin.create_key(TenantId("acme"), "pro", "laptop")
    async with edge.browser("127.0.0.5") as browser:
        await browser.many(50)
        assert (await browser.draw()).status_code == 429
        answer = await browser.draw(headers={"authorization": f"Bearer {made.secret}"})
        assert (answer.status_code, browser.asked_as) == (202, "acme")
        assert "x-notice" not in answer.headers


async def test_several_people_behind_one_address_are_several(edge: Edge) -> None:
    async with edge.browser("127.0.0.6") as one, edge.browser("127.0.0.6") as other:
        for browser in (one, other):
            await browser.client.get("/")
            assert (await browser.draw()).status_code == 202
        first = edge.scheduler.requests[-2].tenant_id
        assert first != other.asked_as
        job = edge.scheduler.requests[-2].job_id
        assert (await one.client.get(f"/v1/jobs/{job}")).status_code == 200
        assert (await other.client.get(f"/v1/jobs/{job}")).status_code == 404


async def test_what_was_made_without_a_cookie_is_read_with_the_one_that_came_back(edge: Edge) -> None:
    async with edge.browser("127.0.0.7") as browser:
        made = (await browser.draw()).json()
        assert browser.asked_as == browser.at_address
        assert "darkroom_visitor" in browser.client.cookies
        assert browser.address not in str(edge.scheduler.requests[-1])
        assert (await browser.client.get(f"/v1/jobs/{made['id']}")).status_code == 200
        browser.client.cookies.clear()
        assert (await browser.client.get(made["events_url"])).status_code == 200
        assert (await browser.client.get(f"/v1/jobs/{made['id']}")).status_code == 200


async def test_a_cookie_of_another_network_or_forged_is_as_none_and_no_error(edge: Edge) -> None:
    async with edge.browser("127.0.0.8") as browser, edge.browser("127.0.77.8") as thief:
        await browser.client.get("/")
        value = browser.client.cookies["darkroom_visitor"]
        for stolen in (value, value[:-3] + "x.k", "20000-" + "A" * 22 + ".x.k1", ";;=", ""):
            thief.client.cookies.clear()
            answer = await thief.draw(headers={"cookie": f"darkroom_visitor={stolen}"})
            assert (answer.status_code, thief.asked_as) == (202, thief.at_address)


async def test_a_machine_is_slowed_and_a_neighbour_with_a_key_is_not(edge: Edge) -> None:
    made = await edge.admin.create_key(TenantId("beta"), "pro", "laptop")
    async with edge.browser(MACHINE) as machine:
        jobs = 0
        while jobs < 12:
            await machine.client.get("/")
            await edge.clock.advance(5)
            answer = await machine.draw()
            if answer.status_code != 202:
                break
            assert edge.scheduler.requests[-1].tenant_weight == 0.5  # its address is listed
            jobs += 1
        assert (jobs, answer.status_code, "x-notice" in answer.headers) == (8, 429, True)
        assert answer.json()["details"][0]["reason"] == "ABNORMAL_USAGE"
        assert (await machine.draw(headers={"authorization": f"Bearer {made.secret}"})).status_code == 202
        assert edge.scheduler.requests[-1].tenant_weight == 1.0
        await edge.clock.advance(int(answer.headers["retry-after"]))
        assert (await machine.draw()).status_code == 202


async def test_whoever_guesses_keys_waits_and_a_neighbour_with_a_good_one_does_not(edge: Edge) -> None:
    made = await edge.admin.create_key(TenantId("gamma"), "pro", "laptop")
    guess = {"authorization": "Bearer guess"}
    async with edge.browser("127.0.0.10") as browser:
        found = [(await browser.client.get("/v1/jobs/job_1", headers=guess)).status_code for _ in range(12)]
        assert found == [401] * 10 + [429] * 2
        answer = await browser.client.get("/v1/jobs/job_1", headers=guess)
        assert answer.json()["details"][0]["reason"] == "RPM_EXHAUSTED"
        assert (answer.headers["retry-after"], "www-authenticate" in answer.headers) == ("6", False)
        assert (await browser.draw(headers={"authorization": f"Bearer {made.secret}"})).status_code == 202


async def test_a_grpc_caller_who_guesses_is_told_in_grpc(edge: Edge) -> None:
    metadata = (("authorization", "Bearer guess"),)
    async with grpc.aio.insecure_channel(edge.url.removeprefix("http://")) as channel:
        jobs = GenerationServiceStub(channel)
        found = []
        for _ in range(11):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await jobs.GetJob(GetJobRequest(id="job_1"), metadata=metadata, timeout=10)
            found.append(refused.value.code())
        assert found == [grpc.StatusCode.UNAUTHENTICATED] * 10 + [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert isinstance(from_rpc_error(refused.value, "the door"), LimitExceeded)
