"""The door as callers meet it: the real Envoy before the real rate limiter, and a gateway that writes down who came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import httpx
import pytest
import pytest_asyncio

from darkroom.v1 import account_service_pb2_grpc as accounts_grpc
from darkroom.v1 import generation_service_pb2 as api
from darkroom.v1 import generation_service_pb2_grpc as api_grpc
from darkroom.v1 import job_pb2
from darkroom.v1.webhook_service_pb2_grpc import WebhookServiceServicer, add_WebhookServiceServicer_to_server
from libs import secret_files
from libs.clients.account import AccountClient
from libs.clients.endpoints import EndpointsClient
from libs.clients.identity import IdentityClient
from libs.clients.limiter import LimiterClient
from libs.clients.limiter_admin import LimiterAdminClient
from libs.clock import SystemClock
from libs.rpc.channel import open_channel
from libs.rpc.server import RpcServer
from libs.secret_files import SigningKeys
from libs.signing import Signer
from libs.testing.envoy import EnvoyServer
from services.gateway.accounts.own_account import OwnAccount
from services.gateway.accounts.servicer import AccountServicer, KeyServicer
from services.gateway.callers.permissions import Guarded
from services.gateway.callers.request_count import RequestCount
from services.gateway.reading.page_tokens import PageTokens
from services.gateway.webhooks.delivering import Delivering
from services.gateway.webhooks.destinations import Destinations
from services.gateway.webhooks.servicer import WebhookServicer
from services.ratelimiter.app import running
from services.ratelimiter.settings import Settings
from tests.integration.services.door.issuer import AUDIENCE, ISSUER, Issuer

TIERS = "".join(
    f"[{tier}]\nrequests_per_minute = {per_minute}\nrequests_burst = 20\nunits_per_minute = 1000\nunits_burst = 1000\n"
    for tier, per_minute in (("enterprise", 500), ("pro", 400), ("payg", 300), ("free", 200), ("anonymous", 100))
)
DEPLOYMENT = "d" * 32  # what secrets of endpoints are made from
OF_ANONYMOUS = "daily_images = 50\naddress_daily_images = 150\n"


@dataclass
class Visited(api_grpc.GenerationServiceServicer):
    """A gateway behind its guard that keeps the headers of the last call that came so far."""

    headers: dict[str, str] | None = field(default=None)

    async def CreateJobJson(self, _request: api.CreateJobJsonRequest, context: Any) -> job_pb2.Job:
        return self._note(context)

    async def GetJob(self, _request: api.GetJobRequest, context: Any) -> job_pb2.Job:
        return self._note(context)

    def _note(self, context: Any) -> job_pb2.Job:
        self.headers = dict(context.invocation_metadata())
        return job_pb2.Job(id="job_1")


@dataclass(frozen=True, slots=True)
class Doorway:
    """A running door; `visited` is reset by `call`."""

    envoy: EnvoyServer
    client: httpx.AsyncClient
    admin: LimiterAdminClient
    visited: Visited
    issuer: Issuer
    limiter: LimiterClient
    database: str

    async def call(self, bearer: str = "", method: str = "GET", **headers: str) -> httpx.Response:
        """Read a job, or make one with POST, over REST, as somebody without a cookie."""
        self.client.cookies.clear()
        self.visited.headers = None
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer:
            given["authorization"] = f"Bearer {bearer}"
        path, content = ("/v1/jobs", b"{}") if method == "POST" else ("/v1/jobs/job_1", None)
        return await self.client.request(method, path, headers=given, content=content)

    async def native(self, bearer: str = "", **headers: str) -> Any:
        """Read a job over gRPC."""
        self.visited.headers = None
        given = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if bearer:
            given.append(("authorization", f"Bearer {bearer}"))
        async with grpc.aio.insecure_channel(self.envoy.address) as channel:
            request = api.GetJobRequest(id="job_1")
            return await api_grpc.GenerationServiceStub(channel).GetJob(request, timeout=10, metadata=tuple(given))

    def who(self) -> tuple[str, str, str]:
        """Return tenant, tier and scopes of the last call as the gateway was told them."""
        assert self.visited.headers is not None, "the call did not come so far"
        return tuple(self.visited.headers[f"x-darkroom-{name}"] for name in ("tenant", "tier", "scopes"))  # type: ignore[return-value]


def telling(channel: grpc.aio.Channel) -> WebhookServicer:
    """A gateway's part that looks after endpoints, which may be on this machine."""
    delivering = Delivering(Destinations(insecure=True), DEPLOYMENT, SystemClock())
    return delivering.servicer(EndpointsClient(channel), RequestCount(LimiterClient(channel)))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doorway]:
    folder = tmp_path_factory.mktemp("door")
    secret_files.ensure(folder / "secrets")
    (folder / "tiers.toml").write_text(TIERS + OF_ANONYMOUS)
    (folder / "keys").mkdir()
    issuer = Issuer(folder / "keys" / "jwks.json")
    issuer.publish()
    mesh = secret_files.read_token(folder / "secrets", secret_files.MESH_TOKEN)
    operator = secret_files.read_token(folder / "secrets", secret_files.OPERATOR_TOKEN)
    async with AsyncExitStack() as stack:
        settings = Settings(data=folder, jwt_tiers=("pro",), sign_up="on", wrong_keys_per_min=1e6)
        limiter = await stack.enter_async_context(running(settings))
        address = f"127.0.0.1:{limiter.port}"
        channel = await stack.enter_async_context(open_channel(address, mesh_token=mesh, operator_token=operator))
        visited, front = Visited(), RpcServer("127.0.0.1:0", mesh_token=mesh)
        guarded = cast("api_grpc.GenerationServiceServicer", Guarded(visited, "GenerationService"))
        api_grpc.add_GenerationServiceServicer_to_server(guarded, front.grpc)
        identity = IdentityClient(channel)
        signer, requests = Signer(SigningKeys("k1", {"k1": b"1" * 32})), RequestCount(LimiterClient(channel))
        own = OwnAccount(AccountClient(channel), signer, SystemClock())
        accounts = cast(
            "accounts_grpc.AccountServiceServicer", Guarded(AccountServicer(identity, own), "AccountService")
        )
        accounts_grpc.add_AccountServiceServicer_to_server(accounts, front.grpc)
        keys = cast(
            "accounts_grpc.KeyServiceServicer",
            Guarded(KeyServicer(identity, requests, PageTokens(signer, "key-page")), "KeyService"),
        )
        accounts_grpc.add_KeyServiceServicer_to_server(keys, front.grpc)
        webhooks = cast("WebhookServiceServicer", Guarded(telling(channel), "WebhookService"))
        add_WebhookServiceServicer_to_server(webhooks, front.grpc)
        await front.start(())
        stack.push_async_callback(front.grpc.stop, 0)
        flags = ("--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE, "--jwt-jwks", str(issuer.path))
        upstreams = {"gateway": f"127.0.0.1:{front.port}", "ratelimiter": address, "mesh_token": mesh}
        envoy = await stack.enter_async_context(EnvoyServer(**upstreams, flags=flags))
        client = httpx.AsyncClient(base_url=f"http://{envoy.address}", timeout=30, trust_env=False)
        await stack.enter_async_context(client)
        admin, deciding = LimiterAdminClient(channel), LimiterClient(channel)
        yield Doorway(envoy, client, admin, visited, issuer, deciding, settings.database)
