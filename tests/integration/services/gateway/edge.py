"""The real Envoy's stand-ins: a gateway and a rate limiter that write down what reaches them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import grpc
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption
from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.rpc import Status
from google.api import httpbody_pb2

from darkroom.v1 import generation_service_pb2 as api
from darkroom.v1 import generation_service_pb2_grpc as api_grpc
from darkroom.v1 import job_pb2
from darkroom.v1 import site_service_pb2_grpc as site_grpc
from libs.errors import InvalidRequest, Violation
from libs.rpc import headers
from libs.rpc.interceptors import AnswerInterceptor
from libs.testing.envoy import EnvoyServer

TOKEN = "mesh-token-of-the-test"
UNKNOWN = HttpStatus(code=StatusCode.Unauthorized)


@dataclass
class StandIn(api_grpc.GenerationServiceServicer, site_grpc.SiteServiceServicer):
    """A gateway that answers by the job's id and keeps the metadata of the last call."""

    seen: dict[str, str] = field(default_factory=dict)

    async def CreateJob(self, _request, _context):
        return job_pb2.Job(id="job_1", state=job_pb2.Job.QUEUED)

    async def CreateJobJson(self, request, context):
        self.seen = dict(context.invocation_metadata())
        if request.body.data == b"bad":
            raise InvalidRequest("no good", violations=[Violation("width", "is bad")])
        headers.add([("x-http-code", "202"), ("location", "/v1/jobs/job_1")])
        return job_pb2.Job(id="job_1", state=job_pb2.Job.QUEUED)

    async def GetJob(self, request, context):
        self.seen = dict(context.invocation_metadata())
        headers.add([("x-http-code", "202"), ("x-ratelimit-remaining-requests", "41")])
        return job_pb2.Job(id=request.id)

    async def EstimateJobJson(self, _request, _context):
        return api.Estimate(units=1)

    async def ListJobs(self, _request, _context):
        return api.ListJobsResponse()

    async def CancelJob(self, request, _context):
        return job_pb2.Job(id=request.id, state=job_pb2.Job.CANCELLED)

    async def StreamJobEvents(self, _request, _context):
        yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=b"event: queued\nid: 1\ndata: {}\n\n")
        yield httpbody_pb2.HttpBody(data=b": keepalive\n\n")

    async def DownloadBlob(self, _request, context):
        self.seen = dict(context.invocation_metadata())
        yield httpbody_pb2.HttpBody(content_type="image/png", data=b"here")

    async def GetHealth(self, _request, context):
        self.seen = dict(context.invocation_metadata())
        return httpbody_pb2.HttpBody(content_type="application/json", data=b"here")

    async def GetPage(self, _request, context):
        self.seen = dict(context.invocation_metadata())
        return httpbody_pb2.HttpBody(content_type="text/html", data=b"here")


@dataclass
class Asked:
    """What the ext_authz stand-in was asked last."""

    metadata: dict[str, str] = field(default_factory=dict)
    check: CheckRequest | None = None


@dataclass
class Edge:
    """A running door with its stand-ins."""

    envoy: EnvoyServer
    gateway: StandIn
    asked: Asked
    limiter: grpc.aio.Server

    @property
    def url(self) -> str:
        return f"http://{self.envoy.address}"


def authorization(asked: Asked) -> grpc.GenericRpcHandler:
    """Let everybody in as tenant `t`, with one header for the caller; only keys that begin with `dk_` are known."""

    async def check(request: CheckRequest, context) -> CheckResponse:
        asked.metadata, asked.check = dict(context.invocation_metadata()), request
        option = lambda key, value: HeaderValueOption(header=HeaderValue(key=key, value=value))  # noqa: E731
        shown = request.attributes.request.http.headers.get("authorization", "").removeprefix("Bearer ")
        if shown and not shown.startswith("dk_"):
            return CheckResponse(status=Status(code=16), denied_response=DeniedHttpResponse(status=UNKNOWN))
        key = [option("x-darkroom-key-id", f"id_of_{shown[:20]}")] if shown else []
        answer = OkHttpResponse(
            headers=[option("x-darkroom-tenant", "t"), *key],
            headers_to_remove=["authorization", *(["x-darkroom-key-id"] if not shown else [])],
            response_headers_to_add=[option("x-ratelimit-limit-requests", "60")],
        )
        return CheckResponse(status=Status(code=0), ok_response=answer)

    method = grpc.unary_unary_rpc_method_handler(check, CheckRequest.parse, bytes)
    return grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method})


async def started(server: grpc.aio.Server) -> str:
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return f"127.0.0.1:{port}"


@asynccontextmanager
async def running_edge(otlp: str = "", flags: Sequence[str] = ()) -> AsyncIterator[Edge]:
    """Run a door before stand-ins; `flags` are more arguments of the configuration's renderer."""
    gateway, asked = StandIn(), Asked()
    front = grpc.aio.server(interceptors=[AnswerInterceptor()])
    api_grpc.add_GenerationServiceServicer_to_server(gateway, front)
    site_grpc.add_SiteServiceServicer_to_server(gateway, front)
    limiter = grpc.aio.server()
    limiter.add_generic_rpc_handlers((authorization(asked),))
    async with AsyncExitStack() as stack:
        for server in (front, limiter):
            stack.push_async_callback(server.stop, 0)
        upstreams = {"gateway": await started(front), "ratelimiter": await started(limiter)}
        envoy = await stack.enter_async_context(EnvoyServer(**upstreams, mesh_token=TOKEN, otlp=otlp, flags=flags))
        yield Edge(envoy, gateway, asked, limiter)
