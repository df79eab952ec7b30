"""The scheduler as an operator calls it: the fleet and the queue."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from darkroom.scheduler.v1 import admin_service_pb2_grpc as pb_grpc
from libs.ids import JobId, WorkerId
from libs.rpc import deadlines
from libs.rpc.status import translated

_PEER = "scheduler"


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that is alive. Memory in bytes, `started_at` in Unix seconds."""

    id: WorkerId
    incarnation: str
    address: str
    device: str
    memory_bytes: float
    models: tuple[str, ...]
    resident: tuple[str, ...]
    rows: int
    rows_in_use: int
    running_job: JobId
    started_at: float


@dataclass(frozen=True, slots=True)
class TierQueue:
    """Jobs of one tier; age of the oldest waiting one in seconds."""

    tier: str
    queued: int
    running: int
    oldest_age_s: float


class SchedulerAdminClient:
    """AdminService of the scheduler; the channel carries the operator token and stays its owner's."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = pb_grpc.AdminServiceStub(channel)

    async def list_workers(self) -> list[WorkerView]:
        """Return the workers that are alive, by name. Raises DarkroomError."""
        with translated(_PEER):
            answer = await self._stub.ListWorkers(pb.ListWorkersRequest(), timeout=deadlines.ADMIN_S)
        return [_worker_from_pb(worker) for worker in answer.workers]

    async def get_queue(self) -> list[TierQueue]:
        """Return the queue by tier, in order of service. Raises DarkroomError."""
        with translated(_PEER):
            answer = await self._stub.GetQueue(pb.GetQueueRequest(), timeout=deadlines.ADMIN_S)
        return [TierQueue(t.tier, t.queued, t.running, t.oldest_age_s) for t in answer.tiers]


def _worker_from_pb(worker: pb.Worker) -> WorkerView:
    return WorkerView(
        id=WorkerId(worker.id),
        incarnation=worker.incarnation,
        address=worker.address,
        device=worker.device,
        memory_bytes=worker.memory_bytes,
        models=tuple(worker.models),
        resident=tuple(worker.resident),
        rows=worker.rows,
        rows_in_use=worker.rows_in_use,
        running_job=JobId(worker.running_job),
        started_at=worker.start_time.ToNanoseconds() / 1e9,
    )
