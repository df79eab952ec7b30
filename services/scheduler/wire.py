"""Jobs, catalog and queue ⇄ messages. `images[].url` and `events_url` stay empty: the gateway signs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from darkroom.scheduler.v1 import scheduler_service_pb2 as pb
from darkroom.v1 import job_pb2
from libs import errors
from libs.clients.modelserver import Progress
from libs.generation.attempt import StageDone
from libs.ids import JobId, KeyId, TenantId
from libs.rpc.status import REASONS, to_status
from libs.wire.cost import cost_to_pb
from libs.wire.image import image_to_pb
from libs.wire.model import model_to_pb
from libs.wire.spec import spec_from_pb, spec_to_pb
from libs.wire.timestamp import timestamp
from services.scheduler.catalog_merge import Catalog
from services.scheduler.forecast.estimator import QueueEstimate
from services.scheduler.job import AttemptRecord, Failure, Job, JobState
from services.scheduler.settlement import endings


def job_from_submit(request: pb.SubmitRequest, *, now: float, traceparent: str) -> Job:
    """Return the new job of a Submit; its deadline counts from now."""
    spec = spec_from_pb(request.spec)
    return Job(
        id=JobId(request.job_id),
        tenant_id=TenantId(sys.intern(request.tenant_id)),  # long queues repeat these: one string each
        tier=sys.intern(request.tier),
        key_id=KeyId(sys.intern(request.key_id)),
        model=sys.intern(request.model),
        model_version=sys.intern(request.model_version),
        spec=spec,
        estimated_units=request.estimated_units,
        created_at=now,
        queued_at=now,
        request_id=request.request_id,
        request_digest=request.request_digest,
        traceparent=traceparent,
        tenant_weight=request.tenant_weight if request.HasField("tenant_weight") else 1.0,
        running_images=request.running_images if request.HasField("running_images") else None,
        address=sys.intern(request.address),
        deadline_at=now + spec.deadline_s if spec.deadline_s else None,
    )


def job_to_pb(
    job: Job,
    *,
    attempts: Sequence[AttemptRecord] = (),
    queue: QueueEstimate | None = None,
    progress: Progress | None = None,
) -> job_pb2.Job:
    """Return the public job."""
    return job_pb2.Job(
        id=job.id,
        state=job_pb2.Job.State.Value(job.state.value),
        model=job.model,
        model_version=job.model_version,
        spec=spec_to_pb(job.spec),
        images=[image_to_pb(image) for image in job.images],
        progress=progress_to_pb(progress) if progress else None,
        queue=queue_to_pb(queue) if queue else None,
        cost=_cost(job),
        attempts=[_attempt(attempt) for attempt in attempts],
        timeline=[_stage(stage) for stage in job.stages],
        error=_error(job),
        create_time=stamp(job.created_at),
        start_time=stamp(job.started_at),
        end_time=stamp(job.finished_at),
        expire_time=stamp(job.expires_at),
        labels=dict(job.spec.labels),
        request_id=job.request_id,
        cache=job.cache,
        downgraded_from=job.downgraded_from,
    )


def progress_to_pb(progress: Progress) -> job_pb2.Progress:
    """Return a progress."""
    return job_pb2.Progress(attempt=progress.attempt, step=progress.step, total=progress.total, eta_s=progress.eta_s)


def queue_to_pb(queue: QueueEstimate) -> job_pb2.QueueStatus:
    """Return a place in the queue."""
    return job_pb2.QueueStatus(
        position=queue.position,
        wait_p50_s=queue.wait_p50_s,
        wait_p90_s=queue.wait_p90_s,
        feasible=queue.feasible,
        as_of=stamp(queue.as_of),
        starts_after_load=queue.starts_after_load,
        reason=queue.reason,
    )


def catalog_to_pb(catalog: Catalog) -> pb.Catalog:
    """Return the catalog with its prices."""
    return pb.Catalog(
        version=catalog.version,
        models=[model_to_pb(model) for model in catalog.models],
        costs=[
            cost_to_pb(model.pinned, catalog.prices.entry(model.pinned)) for model in catalog.models if model.usable
        ],
        default_model=catalog.default_model,
        prices_version=catalog.prices.version,
    )


def failure_to_pb(failure: Failure) -> status_pb2.Status:
    """Return a failure in the shape of every other error."""
    kind = REASONS.get(failure.reason, errors.InternalFault)
    return to_status(kind(failure.message, reason=failure.reason, metadata=failure.metadata))


def state_from_pb(state: job_pb2.Job.State.ValueType) -> JobState | None:
    """Return the state to filter by; None for all."""
    return None if state == job_pb2.Job.UNSPECIFIED else JobState(job_pb2.Job.State.Name(state))


def stamp(seconds: float | None) -> Timestamp | None:
    """Return Unix seconds as a timestamp, to the microsecond."""
    return None if seconds is None else timestamp(seconds)


def _cost(job: Job) -> job_pb2.Cost:
    return job_pb2.Cost(
        estimated_units=job.estimated_units,
        actual_units=job.actual_units,
        charged_units=job.charged_units,
        reason=job.charge_reason,
    )


def _error(job: Job) -> status_pb2.Status | None:
    if job.state is JobState.EXPIRED:
        return failure_to_pb(endings.expiry_failure(job))
    return failure_to_pb(job.failure) if job.failure else None


def _attempt(attempt: AttemptRecord) -> job_pb2.Attempt:
    return job_pb2.Attempt(
        attempt=attempt.attempt,
        worker=attempt.worker,
        outcome=attempt.outcome,
        reason=attempt.reason,
        start_time=stamp(attempt.started_at),
        end_time=stamp(attempt.ended_at),
        checkpoint_step=attempt.checkpoint_step,
    )


def _stage(stage: StageDone) -> job_pb2.Stage:
    return job_pb2.Stage(name=stage.name, start_time=stamp(stage.start_s), end_time=stamp(stage.end_s))
