"""AdminService: the fleet, the queue, dead letters and where models are, for operators: convert, call, convert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from darkroom.scheduler.v1 import admin_service_pb2_grpc as pb_grpc
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.ids import JobId
from services.scheduler.devices import wire as device_wire
from services.scheduler.devices.keeper import DeviceKeeper
from services.scheduler.faults import told_to_callers
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.operators import queue_view
from services.scheduler.operators import wire as admin_wire
from services.scheduler.operators.model_moves import ModelMoves
from services.scheduler.operators.operator_desk import OperatorDesk
from services.scheduler.order.ordering import TIERS
from services.scheduler.placement.fleet import Fleet
from services.scheduler.placement.placement import Obstacle
from services.scheduler.retries.ward import Ward

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class AdminParts:
    """What the servicer calls."""

    fleet: Fleet
    jobs: OpenJobs
    moves: ModelMoves
    desk: OperatorDesk
    ward: Ward
    clock: Clock
    devices: DeviceKeeper


class AdminServicer(pb_grpc.AdminServiceServicer):
    """The scheduler as operators see it."""

    def __init__(self, parts: AdminParts) -> None:
        self._parts = parts

    async def ListWorkers(self, _request: pb.ListWorkersRequest, _context: Context) -> pb.ListWorkersResponse:
        """List the workers that are alive, by name."""
        workers = sorted(self._parts.fleet.workers().values(), key=lambda record: record.worker_id)
        return pb.ListWorkersResponse(workers=[self._worker(record) for record in workers])

    async def GetQueue(self, _request: pb.GetQueueRequest, _context: Context) -> pb.GetQueueResponse:
        """Count the queue by tier, in order of service, by model and by tenant."""
        jobs, now = self._parts.jobs, self._parts.clock.now()
        view = await queue_view.count(jobs.all())
        running = [job.tier for job in jobs.running()]
        order = jobs.ordering
        return pb.GetQueueResponse(
            tiers=[
                admin_wire.tier_queue_to_pb(tier, order.depth(tier), running.count(tier), order.oldest(tier), now)
                for tier in TIERS
            ],
            models=[admin_wire.model_queue_to_pb(name, n, self._obstacle(name), now) for name, n in view.models],
            tenants=[admin_wire.tenant_queue_to_pb(tenant, n) for tenant, n in view.tenants],
        )

    async def WarmModel(self, request: pb.WarmModelRequest, _context: Context) -> pb.WarmModelResponse:
        """Have workers bring a model into memory."""
        moves = await self._parts.moves.warm(request.model, request.worker_id, request.tier)
        return pb.WarmModelResponse(moves=[admin_wire.move_to_pb(move) for move in moves])

    async def EvictModel(self, request: pb.EvictModelRequest, _context: Context) -> pb.EvictModelResponse:
        """Have workers let a model go."""
        moves = await self._parts.moves.evict(request.model, request.worker_id)
        return pb.EvictModelResponse(moves=[admin_wire.move_to_pb(move) for move in moves])

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, _context: Context
    ) -> pb.ListDeadLettersResponse:
        """List dead letters, the latest first."""
        with told_to_callers():
            return admin_wire.letters_to_pb(await self._parts.desk.dead_letters(request.limit))

    async def RequeueDeadLetter(
        self, request: pb.RequeueDeadLetterRequest, _context: Context
    ) -> pb.RequeueDeadLetterResponse:
        """Queue a dead letter again."""
        with told_to_callers():
            await self._parts.desk.requeue(JobId(request.job_id))
        return pb.RequeueDeadLetterResponse()

    async def DropDeadLetter(self, request: pb.DropDeadLetterRequest, _context: Context) -> pb.DropDeadLetterResponse:
        """Forget a dead letter."""
        with told_to_callers():
            await self._parts.desk.drop(JobId(request.job_id))
        return pb.DropDeadLetterResponse()

    async def DrainWorker(self, request: pb.DrainWorkerRequest, _context: Context) -> pb.DrainWorkerResponse:
        """Give a worker nothing new."""
        with told_to_callers():
            running = await self._parts.desk.drain(request.worker_id, at_once=request.now)
        return pb.DrainWorkerResponse(running_jobs=running)

    async def UndrainWorker(self, request: pb.UndrainWorkerRequest, _context: Context) -> pb.UndrainWorkerResponse:
        """Give a drained worker jobs again."""
        with told_to_callers():
            await self._parts.desk.undrain(request.worker_id)
        return pb.UndrainWorkerResponse()

    async def PinModel(self, request: pb.PinModelRequest, _context: Context) -> pb.PinModelResponse:
        """Have a worker hold a model."""
        with told_to_callers():
            return pb.PinModelResponse(model_version=await self._parts.desk.pin(request.model, request.worker_id))

    async def UnpinModel(self, request: pb.UnpinModelRequest, _context: Context) -> pb.UnpinModelResponse:
        """Let a pinned model be as others."""
        with told_to_callers():
            return pb.UnpinModelResponse(model_version=await self._parts.desk.unpin(request.model, request.worker_id))

    async def ListPins(self, _request: pb.ListPinsRequest, _context: Context) -> pb.ListPinsResponse:
        """List pins, by worker."""
        pins = sorted(self._parts.desk.operations.pins.items())
        return pb.ListPinsResponse(
            pins=[pb.Pin(worker_id=worker, model_version=model) for worker, held in pins for model in sorted(held)]
        )

    async def GetDeviceTime(self, request: pb.GetDeviceTimeRequest, _context: Context) -> pb.GetDeviceTimeResponse:
        """Tell what the devices' time went into, by day, and what it costs by the settings."""
        devices = self._parts.devices
        days = await devices.read(*device_wire.days_from_pb(request, self._parts.clock.now()))
        return device_wire.days_to_pb(days, devices.costs)

    def _worker(self, record: WorkerRecord) -> pb.Worker:
        operations = self._parts.desk.operations
        return admin_wire.worker_to_pb(
            record,
            running_job=next(iter(self._parts.fleet.given(record)), ""),
            drained=record.worker_id in operations.drained,
            pins=operations.pins.get(record.worker_id, ()),
            quarantined_until=self._parts.ward.until(record),
        )

    def _obstacle(self, model_version: str) -> Obstacle | None:
        found = self._parts.fleet.place(model_version, ())
        return found if isinstance(found, Obstacle) else None
