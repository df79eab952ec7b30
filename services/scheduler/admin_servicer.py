"""AdminService: the fleet, the queue and where models are, for operators."""

from __future__ import annotations

from typing import Any

import grpc

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from darkroom.scheduler.v1 import admin_service_pb2_grpc as pb_grpc
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from services.scheduler.fleet import Fleet
from services.scheduler.model_moves import ModelMoves, Move
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.ordering import TIERS
from services.scheduler.wire import stamp

Context = grpc.aio.ServicerContext[Any, Any]


class AdminServicer(pb_grpc.AdminServiceServicer):
    """Answers from memory; wishes for models go to the workers."""

    def __init__(self, fleet: Fleet, jobs: OpenJobs, moves: ModelMoves, clock: Clock) -> None:
        self._fleet = fleet
        self._jobs = jobs
        self._moves = moves
        self._clock = clock

    async def ListWorkers(self, _request: pb.ListWorkersRequest, _context: Context) -> pb.ListWorkersResponse:
        """List the workers that are alive, by name."""
        workers = sorted(self._fleet.workers().values(), key=lambda record: record.worker_id)
        return pb.ListWorkersResponse(workers=[self._worker(record) for record in workers])

    async def GetQueue(self, _request: pb.GetQueueRequest, _context: Context) -> pb.GetQueueResponse:
        """Count the queue by tier, in order of service."""
        running = [job.tier for job in self._jobs.running()]
        return pb.GetQueueResponse(tiers=[self._tier(tier, running.count(tier)) for tier in TIERS])

    async def WarmModel(self, request: pb.WarmModelRequest, _context: Context) -> pb.WarmModelResponse:
        """Have workers bring a model into memory."""
        moves = await self._moves.warm(request.model, request.worker_id, request.tier)
        return pb.WarmModelResponse(moves=[_move(move) for move in moves])

    async def EvictModel(self, request: pb.EvictModelRequest, _context: Context) -> pb.EvictModelResponse:
        """Have workers let a model go."""
        moves = await self._moves.evict(request.model, request.worker_id)
        return pb.EvictModelResponse(moves=[_move(move) for move in moves])

    def _worker(self, record: WorkerRecord) -> pb.Worker:
        return pb.Worker(
            id=record.worker_id,
            incarnation=record.incarnation,
            address=record.address,
            device=record.device,
            memory_bytes=record.memory_bytes,
            models=record.models,
            resident=record.resident,
            rows=record.rows,
            rows_in_use=record.rows_in_use,
            running_job=next(iter(self._fleet.given(record)), ""),
            start_time=stamp(record.started_at),
            residency=dict(record.residency),
            load_share=record.load_share,
            step_table_version=record.step_table_version,
            utilisation_ratio=record.utilisation_ratio,
            memory_used_bytes=record.memory_used_bytes,
            temperature_celsius=record.temperature_celsius,
            power_watts=record.power_watts,
            throttle=record.throttle or (),
        )

    def _tier(self, tier: str, running: int) -> pb.TierQueue:
        since = self._jobs.ordering.oldest(tier)
        age_s = 0.0 if since is None else max(0.0, self._clock.now() - since)
        queued = self._jobs.ordering.depth(tier)
        return pb.TierQueue(tier=tier, queued=queued, running=running, oldest_age_s=age_s)


def _move(move: Move) -> pb.ModelMove:
    return pb.ModelMove(
        worker_id=move.worker_id, model_version=move.pinned, accepted=not move.refusal, message=move.refusal
    )
