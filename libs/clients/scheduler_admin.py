"""The scheduler as an operator calls it: the fleet, the queue, dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import grpc

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from darkroom.scheduler.v1 import admin_service_pb2_grpc as pb_grpc
from libs.ids import JobId, TenantId, WorkerId
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
    draining: bool = False  # it takes nothing new
    pins: tuple[str, ...] = ()  # models it is to hold
    quarantined_until: float | None = None  # Unix seconds


@dataclass(frozen=True, slots=True)
class TierQueue:
    """Jobs of one tier; age of the oldest waiting one in seconds."""

    tier: str
    queued: int
    running: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True)
class ModelQueue:
    """Jobs of one model; `obstacle` says why no worker will take them as things are."""

    model_version: str
    queued: int
    running: int
    oldest_age_s: float
    obstacle: str


@dataclass(frozen=True, slots=True)
class TenantQueue:
    """Jobs of one tenant, and the units that the waiting ones are estimated to cost."""

    tenant_id: TenantId
    queued: int
    running: int
    queued_units: float


@dataclass(frozen=True, slots=True)
class QueueView:
    """Tiers in order of service, models with most waiting jobs first, the tenants with most waiting units first."""

    tiers: tuple[TierQueue, ...]
    models: tuple[ModelQueue, ...]
    tenants: tuple[TenantQueue, ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job whose attempts were used up. Times in Unix seconds."""

    job_id: JobId
    tenant_id: TenantId
    tier: str
    model_version: str
    reason: str
    message: str
    attempts: int
    worker: WorkerId
    created_at: float
    dead_at: float


@dataclass(frozen=True, slots=True)
class Pin:
    """A model that a worker holds on an operator's word."""

    worker_id: WorkerId
    model_version: str


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

    async def get_queue(self) -> QueueView:
        """Return what waits and runs. Raises DarkroomError."""
        with translated(_PEER):
            answer = await self._stub.GetQueue(pb.GetQueueRequest(), timeout=deadlines.ADMIN_S)
        return QueueView(
            tuple(TierQueue(t.tier, t.queued, t.running, t.oldest_age_s) for t in answer.tiers),
            tuple(ModelQueue(m.model_version, m.queued, m.running, m.oldest_age_s, m.obstacle) for m in answer.models),
            tuple(TenantQueue(TenantId(t.tenant_id), t.queued, t.running, t.queued_units) for t in answer.tenants),
        )

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

    async def dead_letters(self, limit: int = 0) -> list[DeadLetter]:
        """Return the jobs whose attempts were used up, the latest first. Raises DarkroomError."""
        with translated(_PEER):
            request = pb.ListDeadLettersRequest(limit=limit)
            answer = await self._stub.ListDeadLetters(request, timeout=deadlines.ADMIN_S)
        return [_letter_from_pb(letter) for letter in answer.dead_letters]

    async def requeue_dead_letter(self, job_id: str) -> None:
        """Queue a dead letter again. Raises DarkroomError."""
        with translated(_PEER):
            request = pb.RequeueDeadLetterRequest(job_id=job_id)
            await self._stub.RequeueDeadLetter(request, timeout=deadlines.ADMIN_S)

    async def drop_dead_letter(self, job_id: str) -> None:
        """Forget a dead letter. Raises DarkroomError."""
        with translated(_PEER):
            await self._stub.DropDeadLetter(pb.DropDeadLetterRequest(job_id=job_id), timeout=deadlines.ADMIN_S)

    async def drain_worker(self, worker_id: str, *, at_once: bool = False) -> list[JobId]:
        """Give a worker nothing new, `at_once` take back what runs; return the jobs there. Raises DarkroomError."""
        with translated(_PEER):
            request = pb.DrainWorkerRequest(worker_id=worker_id, now=at_once)
            answer = await self._stub.DrainWorker(request, timeout=deadlines.ADMIN_S)
        return [JobId(job_id) for job_id in answer.running_jobs]

    async def undrain_worker(self, worker_id: str) -> None:
        """Give a drained worker jobs again. Raises DarkroomError."""
        with translated(_PEER):
            await self._stub.UndrainWorker(pb.UndrainWorkerRequest(worker_id=worker_id), timeout=deadlines.ADMIN_S)

    async def pin_model(self, model: str, worker_id: str) -> str:
        """Have a worker hold a model; return what is pinned. Raises DarkroomError."""
        with translated(_PEER):
            request = pb.PinModelRequest(model=model, worker_id=worker_id)
            answer = await self._stub.PinModel(request, timeout=deadlines.ADMIN_S)
        return answer.model_version

    async def unpin_model(self, model: str, worker_id: str) -> str:
        """Let a pinned model be as others; return what was pinned. Raises DarkroomError."""
        with translated(_PEER):
            request = pb.UnpinModelRequest(model=model, worker_id=worker_id)
            answer = await self._stub.UnpinModel(request, timeout=deadlines.ADMIN_S)
        return answer.model_version

    async def pins(self) -> list[Pin]:
        """Return the pinned models, by worker. Raises DarkroomError."""
        with translated(_PEER):
            answer = await self._stub.ListPins(pb.ListPinsRequest(), timeout=deadlines.ADMIN_S)
        return [Pin(WorkerId(pin.worker_id), pin.model_version) for pin in answer.pins]


def _letter_from_pb(letter: pb.DeadLetter) -> DeadLetter:
    return DeadLetter(
        job_id=JobId(letter.job_id),
        tenant_id=TenantId(letter.tenant_id),
        tier=letter.tier,
        model_version=letter.model_version,
        reason=letter.reason,
        message=letter.message,
        attempts=letter.attempts,
        worker=WorkerId(letter.worker),
        created_at=letter.create_time.ToNanoseconds() / 1e9,
        dead_at=letter.dead_time.ToNanoseconds() / 1e9,
    )


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
        draining=worker.draining,
        pins=tuple(worker.pins),
        quarantined_until=_end_of_quarantine(worker),
    )


def _end_of_quarantine(worker: pb.Worker) -> float | None:
    in_it = worker.HasField("quarantine_end_time")
    return worker.quarantine_end_time.ToNanoseconds() / 1e9 if in_it else None


def _told(worker: pb.Worker, name: _Optional) -> float | None:
    return float(getattr(worker, name)) if worker.HasField(name) else None
