"""The scheduler's peers on real sockets: a worker and a limiter that say what a test tells them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from darkroom.modelserver.v1 import modelserver_service_pb2_grpc as pb_grpc
from darkroom.ratelimiter.v1 import limiter_service_pb2, limiter_service_pb2_grpc
from darkroom.v1 import job_pb2
from libs.clock import SystemClock
from libs.coordination.registry import Registry
from libs.errors import DarkroomError, NotFound, Unavailable
from libs.fleet.announce import Announcer
from libs.rpc.server import RpcServer
from libs.wire.model import model_to_pb
from tests.unit.services.scheduler.fakes import MODEL, record

TOKEN, OPERATOR = "m" * 32, "o" * 32
SHA = "c" * 64
Answer = Sequence[pb.ExecuteEvent] | DarkroomError


def good(request: pb.ExecuteRequest) -> Answer:
    """An attempt that goes well."""
    steps = [job_pb2.Progress(attempt=request.attempt, step=n, total=3) for n in (1, 2, 3)]
    image = job_pb2.Image(index=0, sha256=SHA, content_type="image/png", width=128, height=128, seed=7, size_bytes=5)
    return [
        *(pb.ExecuteEvent(progress=step) for step in steps),
        pb.ExecuteEvent(preview=job_pb2.PreviewEvent(attempt=request.attempt, step=3, total=3, data=b"x")),
        pb.ExecuteEvent(stage=pb.StageDone(name="denoise", start_s=1.0, end_s=2.0)),
        pb.ExecuteEvent(image=image),
        pb.ExecuteEvent(done=pb.AttemptDone(gpu_ms=120.0)),
    ]


class Worker(pb_grpc.ModelServerServiceServicer):
    """Answers Execute by its script; an empty answer holds the stream open until the attempt is cancelled.

    It reports nothing before `may_begin` is set, as it is until a test clears it.
    """

    def __init__(self, script: Callable[[pb.ExecuteRequest], Answer] = good) -> None:
        self.script = script
        self.executed: list[pb.ExecuteRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        self.holding = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> AsyncIterator[pb.ExecuteEvent]:
        known = any((r.job_id, r.attempt) == (request.job_id, request.attempt) for r in self.executed)
        self.executed.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if request.attach and not known:
            raise NotFound("not known here", reason="ATTEMPT_UNKNOWN")
        answer = self.script(request)
        if isinstance(answer, DarkroomError):
            raise answer
        await self.may_begin.wait()
        for event in answer:
            yield event
        if not answer:
            yield pb.ExecuteEvent(progress=job_pb2.Progress(attempt=request.attempt, step=1, total=3))
            self.holding.set()
            await self.cancelled.wait()
            yield pb.ExecuteEvent(failed=pb.AttemptFailed(kind=pb.AttemptFailed.CANCELLED, gpu_ms=30.0))

    async def CancelAttempt(self, request: pb.CancelAttemptRequest, _context: Any) -> pb.CancelAttemptResponse:
        self.cancelled.set()
        return pb.CancelAttemptResponse(found=True)

    async def DescribeModels(self, _request: Any, _context: Any) -> pb.DescribeModelsResponse:
        return pb.DescribeModelsResponse(models=[model_to_pb(MODEL)])


class Limiter(limiter_service_pb2_grpc.LimiterServiceServicer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Any] = asyncio.Queue()

    async def Reserve(self, _request: Any, _context: Any) -> limiter_service_pb2.ReserveResponse:
        raise NotImplementedError

    async def Peek(self, _request: Any, _context: Any) -> limiter_service_pb2.ReserveResponse:
        raise NotImplementedError

    async def Release(self, _request: Any, _context: Any) -> limiter_service_pb2.ReleaseResponse:
        raise NotImplementedError

    async def Confirm(self, request: Any, _context: Any) -> limiter_service_pb2.ConfirmResponse:
        self.told.put_nowait(request)
        return limiter_service_pb2.ConfirmResponse()

    async def Settle(self, request: Any, _context: Any) -> limiter_service_pb2.SettleResponse:
        self.told.put_nowait(request)
        return limiter_service_pb2.SettleResponse(applied=True)


@asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator[RpcServer]:
    """Serve a worker, not yet announced."""
    server = RpcServer("127.0.0.1:0", mesh_token=TOKEN)
    pb_grpc.add_ModelServerServiceServicer_to_server(worker, server.grpc)
    await server.start(["darkroom.modelserver.v1.ModelServerService"])
    try:
        yield server
    finally:
        await server.grpc.stop(0)


@asynccontextmanager
async def announced(
    worker: Worker, registry: Registry, incarnation: str = "a", name: str = "modelserver-0"
) -> AsyncIterator[RpcServer]:
    """Serve a worker and keep it in the fleet."""
    async with serving(worker) as server:
        mine = record(
            name,
            incarnation,
            address=f"127.0.0.1:{server.port}",
            residency=((MODEL.pinned, "ram"),),
            load_share=0.5,
            temperature_celsius=61.0,
            throttle=("sw_power_cap",),
        )
        announcer = Announcer(registry, mine, lease_ttl_s=2, clock=SystemClock())
        task = asyncio.create_task(announcer.run())
        try:
            yield server
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def limiting(limiter: Limiter) -> AsyncIterator[str]:
    """Serve a limiter and give its address."""
    server = RpcServer("127.0.0.1:0", mesh_token=TOKEN)
    limiter_service_pb2_grpc.add_LimiterServiceServicer_to_server(limiter, server.grpc)
    await server.start(["darkroom.ratelimiter.v1.LimiterService"])
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.grpc.stop(0)


def busy(_request: pb.ExecuteRequest) -> Answer:
    """A worker that takes nothing."""
    return Unavailable("busy", reason="WORKER_BUSY")


def silent(_request: pb.ExecuteRequest) -> Answer:
    """A worker that begins and does not end."""
    return []
