"""The scheduler as an operator calls it: the fleet and the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import grpc

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from darkroom.scheduler.v1 import admin_service_pb2_grpc as pb_grpc
from libs.ids import JobId, WorkerId
from libs.rpc import deadlines
from libs.rpc.status import translated

_PEER = "scheduler"
_Optional = Literal["utilisation_ratio", "memory_used_bytes", "temperature_celsius", "power_watts"]


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that is alive. Memory in bytes, `started_at` in Unix seconds; what is None it does not tell."""

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
    residency: Mapping[str, str] = field(default_factory=dict)  # `id@version` → `vram` or `ram`
    load_share: float = 0.0
    step_table_version: int = 0
    utilisation_ratio: float | None = None
    memory_used_bytes: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    throttle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TierQueue:
    """Jobs of one tier; age of the oldest waiting one in seconds."""

    tier: str
    queued: int
    running: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True)
class ModelMove:
    """What a worker said to the wish to warm or evict a model; `message` says why not."""

    worker_id: WorkerId
    pinned: str
    accepted: bool
    message: str


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

    async def warm_model(self, model: str, worker_id: str = "", tier: str = "vram") -> list[ModelMove]:
        """Have a worker, or all that can run it, bring a model into memory. Raises DarkroomError."""
        request = pb.WarmModelRequest(model=model, worker_id=worker_id, tier=tier)
        with translated(_PEER):
            answer = await self._stub.WarmModel(request, timeout=deadlines.ADMIN_S)
        return [_move_from_pb(move) for move in answer.moves]

    async def evict_model(self, model: str, worker_id: str = "") -> list[ModelMove]:
        """Have a worker, or all that can run it, let a model go. Raises DarkroomError."""
        request = pb.EvictModelRequest(model=model, worker_id=worker_id)
        with translated(_PEER):
            answer = await self._stub.EvictModel(request, timeout=deadlines.ADMIN_S)
        return [_move_from_pb(move) for move in answer.moves]


def _move_from_pb(move: pb.ModelMove) -> ModelMove:
    return ModelMove(WorkerId(move.worker_id), move.model_version, move.accepted, move.message)


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
        residency=dict(worker.residency),
        load_share=worker.load_share,
        step_table_version=worker.step_table_version,
        utilisation_ratio=_told(worker, "utilisation_ratio"),
        memory_used_bytes=_told(worker, "memory_used_bytes"),
        temperature_celsius=_told(worker, "temperature_celsius"),
        power_watts=_told(worker, "power_watts"),
        throttle=tuple(worker.throttle),
    )


def _told(worker: pb.Worker, name: _Optional) -> float | None:
    return float(getattr(worker, name)) if worker.HasField(name) else None
