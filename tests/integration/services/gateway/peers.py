"""A scheduler and a limiter behind real gRPC listeners, with just enough behind them to be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from darkroom.ratelimiter.v1 import identity_service_pb2 as identity_pb
from darkroom.ratelimiter.v1 import limiter_service_pb2 as limiter_pb
from darkroom.ratelimiter.v1.identity_service_pb2_grpc import (
    IdentityServiceServicer,
    add_IdentityServiceServicer_to_server,
)
from darkroom.ratelimiter.v1.limiter_service_pb2_grpc import (
    LimiterServiceServicer,
    add_LimiterServiceServicer_to_server,
)
from darkroom.scheduler.v1 import scheduler_service_pb2 as pb
from darkroom.scheduler.v1.scheduler_service_pb2_grpc import (
    SchedulerServiceServicer,
    add_SchedulerServiceServicer_to_server,
)
from darkroom.v1 import job_pb2
from libs import scopes
from libs.errors import DarkroomError, NotFound
from libs.generation.model import Model
from libs.rpc.server import RpcServer
from libs.wire.model import model_to_pb

MESH = "mesh-token-of-the-tests"
SHA = "ab" * 32
LIMITS = ("x-ratelimit-remaining-cost", "41")
FINAL = frozenset({"completed"})


@dataclass
class FakeScheduler(SchedulerServiceServicer):
    """Keeps jobs and their events in memory; survives a restart of its listener. Pauses before event `hold_at`."""

    jobs: dict[str, job_pb2.Job] = field(default_factory=dict)
    refusal: DarkroomError | None = None
    requests: list[pb.SubmitRequest] = field(default_factory=list)
    hold_at: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    models: tuple[Model, ...] = (Model("shapes", "abc", "P", workers=1),)

    async def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitResponse:
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(request)
        made = job_pb2.Job(id=request.job_id, state=job_pb2.Job.QUEUED, model=request.model, spec=request.spec)
        made.model_version = request.model_version
        made.cost.estimated_units = request.estimated_units
        made.queue.position = len(self.requests)
        made.create_time.GetCurrentTime()
        self.jobs[request.job_id] = made
        return pb.SubmitResponse(job=made, request_digest=request.request_digest)

    async def FindJob(self, request: pb.FindJobRequest, context: Any) -> pb.FindJobResponse:
        for asked in self.requests:
            if request.request_id and (asked.tenant_id, asked.request_id) == (request.tenant_id, request.request_id):
                return pb.FindJobResponse(job=self.jobs[asked.job_id], request_digest=asked.request_digest)
        return pb.FindJobResponse()

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> job_pb2.Job:
        owner = {asked.job_id: asked.tenant_id for asked in self.requests}
        if owner.get(request.job_id) != request.tenant_id:
            raise NotFound("There is no such job.", reason="JOB_NOT_FOUND")
        return self.jobs[request.job_id]

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        mine = sorted((a.job_id for a in self.requests if a.tenant_id == request.tenant_id), reverse=True)
        below = [i for i in mine if not request.before_id or i < request.before_id]
        page = [self.jobs[i] for i in below[: request.page_size]]
        return pb.ListJobsResponse(jobs=page, more=len(below) > len(page))

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> job_pb2.Job:
        found = await self.GetJob(pb.GetJobRequest(tenant_id=request.tenant_id, job_id=request.job_id), context)
        found.state = job_pb2.Job.CANCELLED
        return found

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Any) -> pb.DeleteJobResponse:
        await self.GetJob(pb.GetJobRequest(tenant_id=request.tenant_id, job_id=request.job_id), context)
        self.requests = [asked for asked in self.requests if asked.job_id != request.job_id]
        return pb.DeleteJobResponse()

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[job_pb2.JobEvent]:
        job_id, image = request.job_id, job_pb2.Image(index=0, sha256=SHA, content_type="image/png")
        events = (
            job_pb2.JobEvent(job_id=job_id, sequence=1, queued=job_pb2.QueuedEvent()),
            job_pb2.JobEvent(job_id=job_id, sequence=2, started=job_pb2.StartedEvent(attempt=1)),
            job_pb2.JobEvent(job_id=job_id, sequence=3, completed=job_pb2.CompletedEvent(images=[image])),
        )
        for event in events[request.after_sequence :]:
            if event.sequence == self.hold_at and not self.release.is_set():
                self.holding.set()
                await self.release.wait()
            event.time.GetCurrentTime()
            yield event
        self.jobs[job_id].state = job_pb2.Job.SUCCEEDED

    async def WatchCatalog(self, request: Any, context: Any) -> AsyncIterator[pb.Catalog]:
        yield pb.Catalog(version=1, models=[model_to_pb(m) for m in self.models], default_model="shapes")
        await asyncio.Event().wait()

    async def EstimateWait(self, request: pb.EstimateWaitRequest, context: Any) -> job_pb2.QueueStatus:
        return job_pb2.QueueStatus(position=1, feasible=True)

    async def serve(self, listen: str = "127.0.0.1:0") -> RpcServer:
        """Start a listener; the caller stops it."""
        server = RpcServer(listen, mesh_token=MESH)
        add_SchedulerServiceServicer_to_server(self, server.grpc)
        await server.start(())
        return server


@dataclass
class FakeIdentity(IdentityServiceServicer):
    """Knows which keys have ended, with the reason."""

    ended: dict[str, str] = field(default_factory=dict)

    async def FindEndedKeys(self, request: Any, context: Any) -> identity_pb.FindEndedKeysResponse:
        told = [identity_pb.EndedKey(key_id=k, reason=self.ended[k]) for k in request.key_ids if k in self.ended]
        return identity_pb.FindEndedKeysResponse(ended=told)


@dataclass
class FakeLimiter(LimiterServiceServicer):
    """Grants or denies as a test says."""

    denial: limiter_pb.Denial | None = None
    reserved: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    identity: FakeIdentity = field(default_factory=FakeIdentity)

    async def Reserve(self, request: limiter_pb.ReserveRequest, context: Any) -> limiter_pb.ReserveResponse:
        self.reserved.append(request.reservation_id)
        return self._answer()

    async def Peek(self, request: limiter_pb.PeekRequest, context: Any) -> limiter_pb.ReserveResponse:
        return self._answer()

    async def Confirm(self, request: Any, context: Any) -> Any:
        raise NotImplementedError  # the scheduler's business

    async def Settle(self, request: Any, context: Any) -> Any:
        raise NotImplementedError  # the scheduler's business

    async def Release(self, request: limiter_pb.ReleaseRequest, context: Any) -> limiter_pb.ReleaseResponse:
        self.released.append(request.reservation_id)
        return limiter_pb.ReleaseResponse(applied=True)

    def _answer(self) -> limiter_pb.ReserveResponse:
        header = limiter_pb.Header(name=LIMITS[0], value=LIMITS[1])
        return limiter_pb.ReserveResponse(denial=self.denial, headers=[header], available_units=2500)

    async def serve(self) -> RpcServer:
        """Start a listener; the caller stops it."""
        server = RpcServer("127.0.0.1:0", mesh_token=MESH)
        add_LimiterServiceServicer_to_server(self, server.grpc)
        add_IdentityServiceServicer_to_server(self.identity, server.grpc)
        await server.start(())
        return server


def as_caller(tenant: str = "acme", tier: str = "pro", **more: str) -> grpc.aio.Metadata:
    """Return what the door adds to a call, and headers of the call's own."""
    own = ((name.replace("_", "-"), value) for name, value in more.items())
    key = () if tier == "anonymous" else (("x-darkroom-key-id", "key_1"),)
    who = (("x-darkroom-tenant", tenant), ("x-darkroom-tier", tier), ("x-darkroom-scopes", scopes.text(scopes.USUAL)))
    return grpc.aio.Metadata(*who, *key, *own)
