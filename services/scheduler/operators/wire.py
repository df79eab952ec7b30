"""The fleet, the queue and dead letters → messages for operators."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from libs.fleet.record import WorkerRecord
from services.scheduler.job import Job
from services.scheduler.operators.model_moves import Move
from services.scheduler.operators.queue_view import Count
from services.scheduler.placement.placement import Obstacle
from services.scheduler.wire import stamp


def worker_to_pb(
    record: WorkerRecord,
    *,
    running_job: str,
    drained: bool = False,
    pins: Collection[str] = (),
    quarantined_until: float | None = None,
) -> pb.Worker:
    """Return a worker; `quarantined_until` in Unix seconds."""
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
        running_job=running_job,
        start_time=stamp(record.started_at),
        residency=dict(record.residency),
        load_share=record.load_share,
        step_table_version=record.step_table_version,
        utilisation_ratio=record.utilisation_ratio,
        memory_used_bytes=record.memory_used_bytes,
        temperature_celsius=record.temperature_celsius,
        power_watts=record.power_watts,
        throttle=record.throttle or (),
        draining=record.draining or drained,
        pins=sorted(pins),
        quarantine_end_time=stamp(quarantined_until),
    )


def model_queue_to_pb(model_version: str, count: Count, obstacle: Obstacle | None, now: float) -> pb.ModelQueue:
    """Return what waits for a model, with what stands in its way for longer than a while."""
    return pb.ModelQueue(
        model_version=model_version,
        queued=count.queued,
        running=count.running,
        oldest_age_s=_age_s(count.oldest, now),
        obstacle=obstacle.value if obstacle and obstacle is not Obstacle.ALL_BUSY else "",
    )


def tenant_queue_to_pb(tenant_id: str, count: Count) -> pb.TenantQueue:
    """Return what a tenant waits for."""
    return pb.TenantQueue(tenant_id=tenant_id, queued=count.queued, running=count.running, queued_units=count.units)


def tier_queue_to_pb(tier: str, queued: int, running: int, oldest: float | None, now: float) -> pb.TierQueue:
    """Return what waits and runs of a tier; `oldest` in Unix seconds."""
    return pb.TierQueue(tier=tier, queued=queued, running=running, oldest_age_s=_age_s(oldest, now))


def letters_to_pb(jobs: Iterable[Job]) -> pb.ListDeadLettersResponse:
    """Return dead letters."""
    return pb.ListDeadLettersResponse(dead_letters=[_letter(job) for job in jobs])


def move_to_pb(move: Move) -> pb.ModelMove:
    """Return what a worker said."""
    accepted = not move.refusal
    return pb.ModelMove(worker_id=move.worker_id, model_version=move.pinned, accepted=accepted, message=move.refusal)


def _letter(job: Job) -> pb.DeadLetter:
    return pb.DeadLetter(
        job_id=job.id,
        tenant_id=job.tenant_id,
        tier=job.tier,
        model_version=job.model_version,
        reason=job.failure.reason if job.failure else "",
        message=job.failure.message if job.failure else "",
        attempts=job.attempt,
        worker=job.worker,
        create_time=stamp(job.created_at),
        dead_time=stamp(job.dead_at),
    )


def _age_s(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)
