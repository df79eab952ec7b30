from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

import grpc
import pytest
from google.api import httpbody_pb2
from opentelemetry import metrics as otel
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from darkroom.ratelimiter.v1 import limiter_service_pb2 as limiter_pb
from darkroom.v1 import generation_service_pb2 as pb
from darkroom.v1 import job_pb2
from darkroom.v1 import model_service_pb2 as models_pb
from darkroom.v1 import site_service_pb2 as site_pb
from darkroom.v1.generation_service_pb2_grpc import GenerationServiceStub
from darkroom.v1.model_service_pb2_grpc import ModelServiceStub
from darkroom.v1.site_service_pb2_grpc import SiteServiceStub
from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import image_key
from libs.clients.limiter import LimiterClient
from libs.clients.scheduler import SchedulerClient
from libs.clock import SystemClock
from libs.errors import Unavailable
from libs.rpc.channel import open_channel
from libs.rpc.server import RpcServer
from libs.rpc.status import from_rpc_error
from libs.secret_files import SigningKeys
from services.gateway.app import SERVICES, Gateway
from tests.integration.services.gateway.peers import LIMITS, MESH, SHA, FakeLimiter, FakeScheduler, as_caller

KEYS = SigningKeys("k1", {"k1": b"1" * 32})


@dataclass
class Mesh:
    """A gateway behind real gRPC, between a client and two fake peers behind real gRPC."""

    scheduler: FakeScheduler
    limiter: FakeLimiter
    blobs: MemoryBlobs
    gateway: Gateway
    scheduler_server: RpcServer
    channel: grpc.aio.Channel
    stack: AsyncExitStack

    @classmethod
    async def start(cls, stack: AsyncExitStack) -> Self:
        scheduler, limiter, blobs = FakeScheduler(), FakeLimiter(), MemoryBlobs()
        scheduler_server, limiter_server = await scheduler.serve(), await limiter.serve()
        channels = [
            await stack.enter_async_context(open_channel(f"127.0.0.1:{server.port}", mesh_token=MESH))
            for server in (scheduler_server, limiter_server)
        ]
        gateway = Gateway(SchedulerClient(channels[0]), LimiterClient(channels[1]), blobs, KEYS, SystemClock())
        server = RpcServer("127.0.0.1:0", mesh_token=MESH)
        gateway.add_to(server.grpc)
        await server.start(SERVICES)
        for each in (scheduler_server, limiter_server, server):
            stack.push_async_callback(each.grpc.stop, 0)
        watching = asyncio.create_task(gateway.watcher.run())
        stack.callback(watching.cancel)
        await gateway.catalog.arrived()
        channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{server.port}", mesh_token=MESH))
        return cls(scheduler, limiter, blobs, gateway, scheduler_server, channel, stack)

    @property
    def jobs(self) -> Any:
        """The public API of jobs."""
        return GenerationServiceStub(self.channel)

    async def create(self, body: bytes = b'{"prompt": "a circle"}', **more: str) -> tuple[job_pb2.Job, dict[str, Any]]:
        """Create a job as REST does, and return it with the headers of the answer."""
        request = pb.CreateJobJsonRequest(body=httpbody_pb2.HttpBody(data=body))
        call = self.jobs.CreateJobJson(request, metadata=as_caller(**more))
        return await call, dict(await call.initial_metadata())

    async def restart_scheduler(self) -> None:
        """Stop the scheduler's listener at once and open it again on the same port."""
        await self.scheduler_server.grpc.stop(0)
        self.scheduler_server = await self.scheduler.serve(f"127.0.0.1:{self.scheduler_server.port}")
        self.stack.push_async_callback(self.scheduler_server.grpc.stop, 0)


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        yield await Mesh.start(stack)


async def refused(call: Any) -> tuple[Any, dict[str, Any]]:
    """Return the error of a call, as the client reads it, with the headers of the answer."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = await call if not hasattr(call, "read") else await call.read()
    return from_rpc_error(caught.value, "gateway"), dict(caught.value.initial_metadata() or ())


async def test_a_rest_creation(mesh: Mesh) -> None:
    made, sent = await mesh.create(x_darkroom_key_id="key_1")
    assert made.state == job_pb2.Job.QUEUED
    assert {
        "x-http-code": "202", "location": f"/v1/jobs/{made.id}", "x-queue-position": "1", LIMITS[0]: LIMITS[1],
        "x-model-version": "shapes@abc",
    }.items() <= sent.items()  # fmt: skip
    (request,) = mesh.scheduler.requests
    assert mesh.limiter.reserved == [request.job_id] == [made.id]
    assert (request.tenant_id, request.tier, request.key_id, request.spec.steps) == ("acme", "pro", "key_1", 20)


async def test_the_same_key_leads_to_the_same_job(mesh: Mesh) -> None:
    first, _ = await mesh.create(idempotency_key="once", body=b'{"prompt": "a", "seed": 1}')
    again, sent = await mesh.create(idempotency_key="once", body=b'{"seed": 1, "prompt": "a"}')
    assert (again.id, sent["idempotent-replayed"], len(mesh.limiter.reserved)) == (first.id, "true", 1)
    request = pb.CreateJobRequest(spec=job_pb2.JobSpec(prompt="b"), request_id="once")
    error, _ = await refused(mesh.jobs.CreateJob(request, metadata=as_caller()))
    assert error.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_refusals_are_rich_and_keep_their_headers(mesh: Mesh) -> None:
    body = httpbody_pb2.HttpBody(data=b'{"prompt": "a", "width": 7, "steps": 0, "stepz": 1}')
    error, _ = await refused(mesh.jobs.CreateJobJson(pb.CreateJobJsonRequest(body=body), metadata=as_caller()))
    assert (error.reason, {v.field for v in error.violations}) == ("INVALID_REQUEST", {"width", "steps", "stepz"})
    mesh.limiter.denial = limiter_pb.Denial(dimension="cost", limit=6000, available=2500, retry_after_s=7.2)
    request = pb.CreateJobRequest(spec=job_pb2.JobSpec(prompt="a"))
    error, sent = await refused(mesh.jobs.CreateJob(request, metadata=as_caller()))
    assert (error.reason, error.retry_after_s, error.metadata["available_units"]) == (
        "GPU_COST_EXHAUSTED",
        7.2,
        "2500.0",
    )
    assert (sent[LIMITS[0]], sent["retry-after"]) == (LIMITS[1], "8")
    assert mesh.scheduler.requests == []


async def test_a_refused_submission_gives_the_reservation_back(mesh: Mesh) -> None:
    mesh.scheduler.refusal = Unavailable("The queue is full.", reason="QUEUE_FULL", retry_after_s=3)
    request = pb.CreateJobRequest(spec=job_pb2.JobSpec(prompt="a"))
    error, _ = await refused(mesh.jobs.CreateJob(request, metadata=as_caller()))
    assert (error.reason, error.retry_after_s) == ("QUEUE_FULL", 3)
    assert mesh.limiter.released == mesh.limiter.reserved


async def test_cancelling_and_deleting(mesh: Mesh) -> None:
    made, _ = await mesh.create()
    cancelled = await mesh.jobs.CancelJob(pb.CancelJobRequest(id=made.id), metadata=as_caller())
    assert cancelled.state == job_pb2.Job.CANCELLED
    for tenant, reason in (("other", "JOB_NOT_FOUND"), ("acme", None), ("acme", "JOB_NOT_FOUND")):
        call = mesh.jobs.DeleteJob(pb.DeleteJobRequest(id=made.id), metadata=as_caller(tenant))
        if reason:
            assert (await refused(call))[0].reason == reason
        else:
            await call


async def test_another_tenants_job_is_not_there(mesh: Mesh) -> None:
    made, _ = await mesh.create()
    stranger = as_caller("other")
    for call in (
        mesh.jobs.GetJob(pb.GetJobRequest(id=made.id), metadata=stranger),
        mesh.jobs.GetJob(pb.GetJobRequest(id="../../etc"), metadata=stranger),
        mesh.jobs.StreamJobEvents(pb.StreamJobEventsRequest(id=made.id), metadata=stranger),
        mesh.jobs.WatchJob(pb.WatchJobRequest(id=made.id), metadata=stranger),
        mesh.jobs.DownloadImage(pb.DownloadImageRequest(id=made.id), metadata=stranger),
    ):
        assert (await refused(call))[0].reason == "JOB_NOT_FOUND"
    nobody = mesh.jobs.GetJob(pb.GetJobRequest(id=made.id))
    assert (await refused(nobody))[0].reason == "KEY_INVALID"


async def test_events_without_a_key_through_a_restart_of_the_scheduler(mesh: Mesh) -> None:
    mesh.scheduler.hold_at = 3
    made, _ = await mesh.create()
    token = made.events_url.partition("?token=")[2]
    call = mesh.jobs.StreamJobEvents(pb.StreamJobEventsRequest(id=made.id, token=token))

    async def restart() -> None:
        await mesh.scheduler.holding.wait()
        await mesh.restart_scheduler()
        mesh.scheduler.release.set()

    restarting = asyncio.create_task(restart())
    bodies = [body async for body in call]
    await restarting
    assert bodies[0].content_type == "text/event-stream"
    assert dict(await call.initial_metadata())["cache-control"] == "no-cache"
    lines = b"".join(body.data for body in bodies).decode().splitlines()
    assert [line for line in lines if line.startswith("event:")] == [
        "event: queued",
        "event: started",
        "event: completed",
    ]
    final = json.loads(lines[-2].removeprefix("data: "))
    assert final["images"][0]["url"].startswith(f"/v1/blobs/{SHA}.png?e=")


async def test_a_token_of_one_job_opens_no_other(mesh: Mesh) -> None:
    (one, _), (other, _) = await mesh.create(), await mesh.create()
    token = one.events_url.partition("?token=")[2]
    for wrong in (token, token[:-2], "x"):
        call = mesh.jobs.StreamJobEvents(pb.StreamJobEventsRequest(id=other.id, token=wrong), metadata=as_caller())
        assert (await refused(call))[0].reason == "LINK_INVALID"


async def test_a_seen_stream_is_204_and_a_wait_is_200(mesh: Mesh) -> None:
    made, sent = await mesh.create(prefer="wait=20")
    assert (made.state, sent["x-http-code"], sent["preference-applied"]) == (job_pb2.Job.SUCCEEDED, "200", "wait=20")
    call = mesh.jobs.StreamJobEvents(pb.StreamJobEventsRequest(id=made.id), metadata=as_caller(last_event_id="3"))
    assert [body.data async for body in call] == [b""]
    assert dict(await call.initial_metadata())["x-http-code"] == "204"


async def test_a_typed_watch_resumes(mesh: Mesh) -> None:
    made, _ = await mesh.create()
    call = mesh.jobs.WatchJob(pb.WatchJobRequest(id=made.id, after_sequence=1), metadata=as_caller())
    events = [event async for event in call]
    assert [event.sequence for event in events] == [2, 3]
    assert events[-1].completed.images[0].url


async def test_a_picture_with_a_key_and_through_its_link(mesh: Mesh) -> None:
    await mesh.blobs.put(image_key(SHA), b"png", "image/png")
    made, _ = await mesh.create()
    mesh.scheduler.jobs[made.id].images.add(sha256=SHA, content_type="image/png")
    got = await mesh.jobs.GetJob(pb.GetJobRequest(id=made.id), metadata=as_caller())
    name, _, query = got.images[0].url.removeprefix("/v1/blobs/").partition("?")
    e, k, s = (part.partition("=")[2] for part in query.split("&"))
    linked = mesh.jobs.DownloadBlob(pb.DownloadBlobRequest(name=name, e=int(e), k=k, s=s))
    keyed = mesh.jobs.DownloadImage(pb.DownloadImageRequest(id=made.id, index=0), metadata=as_caller())
    for call, scope in ((linked, "public"), (keyed, "private")):
        assert [(body.content_type, body.data) async for body in call] == [("image/png", b"png")]
        assert dict(await call.initial_metadata())["cache-control"].startswith(scope)
    forged = mesh.jobs.DownloadBlob(pb.DownloadBlobRequest(name=name, e=int(e) + 1, k=k, s=s))
    assert (await refused(forged))[0].reason == "LINK_INVALID"


async def test_pages(mesh: Mesh) -> None:
    made = sorted([(await mesh.create())[0].id for _ in range(3)], reverse=True)
    first = await mesh.jobs.ListJobs(pb.ListJobsRequest(page_size=2), metadata=as_caller())
    rest = pb.ListJobsRequest(page_size=2, page_token=first.next_page_token)
    second = await mesh.jobs.ListJobs(rest, metadata=as_caller())
    assert [job.id for job in (*first.jobs, *second.jobs)] == made
    assert second.next_page_token == ""
    error, _ = await refused(mesh.jobs.ListJobs(rest, metadata=as_caller("other")))
    assert error.reason == "PAGE_TOKEN_INVALID"


async def test_anonymous_callers_see_no_list_for_they_share_their_address(mesh: Mesh) -> None:
    everything = pb.ListJobsRequest()
    error, _ = await refused(mesh.jobs.ListJobs(everything, metadata=as_caller("anon:10.0.0.1", "anonymous")))
    assert error.reason == "KEY_REQUIRED"


async def test_models_estimate_health_and_page(mesh: Mesh) -> None:
    models = ModelServiceStub(mesh.channel)
    listed = await models.ListModels(models_pb.ListModelsRequest(), metadata=as_caller())
    assert (listed.object, [model.id for model in listed.data]) == ("list", ["shapes"])
    assert (await models.GetModel(models_pb.GetModelRequest(id="shapes@abc"), metadata=as_caller())).version == "abc"
    request = pb.EstimateJobRequest(spec=job_pb2.JobSpec(prompt="a"))
    assert (await mesh.jobs.EstimateJob(request, metadata=as_caller())).would_admit
    site = SiteServiceStub(mesh.channel)
    health = site.GetHealth(site_pb.GetHealthRequest())
    assert json.loads((await health).data)["status"] == "ok"
    assert dict(await health.initial_metadata())["x-http-code"] == "200"
    assert (await site.GetPage(site_pb.GetPageRequest())).data.startswith(b"<!doctype html>")


async def test_without_a_scheduler_callers_hear_so_at_once_and_the_catalog_stays(mesh: Mesh) -> None:
    await mesh.scheduler_server.grpc.stop(0)
    request = pb.CreateJobRequest(spec=job_pb2.JobSpec(prompt="a"))
    error, sent = await refused(mesh.jobs.CreateJob(request, metadata=as_caller()))
    assert (error.reason, error.metadata["part"], sent["retry-after"]) == ("UNAVAILABLE", "scheduler", "1")
    health = SiteServiceStub(mesh.channel).GetHealth(site_pb.GetHealthRequest())
    assert json.loads((await health).data)["missing"] == ["store"]
    assert dict(await health.initial_metadata())["x-http-code"] == "503"
    assert (await ModelServiceStub(mesh.channel).ListModels(models_pb.ListModelsRequest(), metadata=as_caller())).data


async def test_every_answer_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(otel, "get_meter", lambda name: provider.get_meter(name))
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        mesh = await Mesh.start(stack)
        made, _ = await mesh.create()
        await refused(mesh.jobs.GetJob(pb.GetJobRequest(id="nothing"), metadata=as_caller()))
        _ = [event async for event in mesh.jobs.WatchJob(pb.WatchJobRequest(id=made.id), metadata=as_caller())]
    data = reader.get_metrics_data()
    assert data is not None
    series = {m.name: m for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics}
    counted = {tuple(p.attributes.values()) for p in series["darkroom_requests_total"].data.data_points}
    assert counted == {("CreateJobJson", "OK"), ("GetJob", "NOT_FOUND"), ("WatchJob", "OK")}
    reasons = [p.attributes for p in series["darkroom_errors_total"].data.data_points]
    assert reasons == [{"reason": "JOB_NOT_FOUND"}]
    assert series["darkroom_request_seconds"].unit == "s"
    provider.shutdown()
