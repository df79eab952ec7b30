"""Calls to the scheduler. Public types travel as their messages; everything else is a domain value.

Every failure is a DarkroomError: the scheduler's own, or Unavailable with `part: scheduler` when it did not answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from darkroom.scheduler.v1 import scheduler_service_pb2 as pb
from darkroom.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from darkroom.v1 import job_pb2
from libs.generation.cost import CostTable
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec
from libs.ids import JobId, KeyId, TenantId
from libs.rpc import deadlines
from libs.rpc.channel import ended
from libs.rpc.status import translated
from libs.wire.cost import cost_from_pb
from libs.wire.model import model_from_pb
from libs.wire.spec import spec_to_pb

PEER = "scheduler"
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Submission:
    """A priced, reserved request. `model` is the name that was asked for, `model_version` the pinned one.

    `tenant_weight` and `running_images` are the limiter's word on the tenant, `address` what counts as its address.
    """

    job_id: JobId
    tenant_id: TenantId
    tier: str
    key_id: KeyId
    spec: GenerationSpec
    model: str
    model_version: str
    estimated_units: float
    request_id: str
    request_digest: str
    tenant_weight: float = 1.0
    running_images: int | None = None
    address: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that stands after Submit; `existing` when the idempotency key had led to it before."""

    job: job_pb2.Job
    existing: bool
    request_digest: str


@dataclass(frozen=True, slots=True)
class FoundJob:
    """The job of an idempotency key, with the digest of the request that created it."""

    job: job_pb2.Job
    request_digest: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first; `more` when others follow."""

    jobs: tuple[job_pb2.Job, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Catalog:
    """Models and prices in force; `version` grows with every change."""

    version: int
    models: tuple[Model, ...]
    costs: CostTable
    default_model: str


class SchedulerClient:
    """One channel's worth of SchedulerService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = SchedulerServiceStub(channel)

    async def submit(self, submission: Submission) -> Submitted:
        """Commit a job; when this returns it is durable."""
        request = pb.SubmitRequest(
            job_id=submission.job_id,
            tenant_id=submission.tenant_id,
            tier=submission.tier,
            key_id=submission.key_id,
            spec=spec_to_pb(submission.spec),
            model=submission.model,
            model_version=submission.model_version,
            estimated_units=submission.estimated_units,
            request_id=submission.request_id,
            request_digest=submission.request_digest,
            tenant_weight=submission.tenant_weight,
            running_images=submission.running_images,
            address=submission.address,
        )
        answer = await _answer(self._stub.Submit(request, timeout=deadlines.COMMIT_S))
        return Submitted(answer.job, answer.existing, answer.request_digest)

    async def find_job(self, tenant_id: TenantId, request_id: str) -> FoundJob | None:
        """Return the job that an idempotency key led to in the last 24 hours."""
        request = pb.FindJobRequest(tenant_id=tenant_id, request_id=request_id)
        answer = await _answer(self._stub.FindJob(request, timeout=deadlines.READ_S))
        return FoundJob(answer.job, answer.request_digest) if answer.HasField("job") else None

    async def get_job(self, tenant_id: TenantId, job_id: JobId) -> job_pb2.Job:
        """Read a job; raises NotFound for another tenant's."""
        request = pb.GetJobRequest(tenant_id=tenant_id, job_id=job_id)
        return await _answer(self._stub.GetJob(request, timeout=deadlines.READ_S))

    async def list_jobs(
        self, tenant_id: TenantId, page_size: int, before_id: str, state: job_pb2.Job.State.ValueType
    ) -> JobPage:
        """Return jobs with ids below `before_id`; an empty one means from the newest."""
        request = pb.ListJobsRequest(tenant_id=tenant_id, page_size=page_size, before_id=before_id, state=state)
        answer = await _answer(self._stub.ListJobs(request, timeout=deadlines.READ_S))
        return JobPage(tuple(answer.jobs), answer.more)

    async def cancel_job(self, tenant_id: TenantId, job_id: JobId) -> job_pb2.Job:
        """Ask for a job's end and return it as it is then."""
        request = pb.CancelJobRequest(tenant_id=tenant_id, job_id=job_id)
        return await _answer(self._stub.CancelJob(request, timeout=deadlines.COMMIT_S))

    async def delete_job(self, tenant_id: TenantId, job_id: JobId) -> None:
        """Remove a job's prompt and pictures."""
        request = pb.DeleteJobRequest(tenant_id=tenant_id, job_id=job_id)
        await _answer(self._stub.DeleteJob(request, timeout=deadlines.COMMIT_S))

    async def watch_job(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        """Yield durable events after a sequence, then what happens; ends after the final event or with a failure."""
        request = pb.WatchJobRequest(tenant_id=tenant_id, job_id=job_id, after_sequence=after_sequence)
        call = self._stub.WatchJob(request, timeout=deadlines.STREAM_S)
        with translated(PEER), ended(call):
            async for event in call:
                yield event

    async def watch_catalog(self) -> AsyncGenerator[Catalog, None]:
        """Yield the catalog at once and again after every change."""
        call = self._stub.WatchCatalog(pb.WatchCatalogRequest(), timeout=deadlines.STREAM_S)
        with translated(PEER), ended(call):
            async for catalog in call:
                yield catalog_from_pb(catalog)

    async def estimate_wait(self, tier: str, model_version: str, units: float) -> job_pb2.QueueStatus:
        """Return where a job submitted now would stand."""
        request = pb.EstimateWaitRequest(tier=tier, model_version=model_version, units=units)
        return await _answer(self._stub.EstimateWait(request, timeout=deadlines.READ_S))


async def _answer(call: Awaitable[R]) -> R:
    with translated(PEER):
        return await call


def catalog_from_pb(catalog: pb.Catalog) -> Catalog:
    """Return models and prices as the scheduler sent them."""
    costs = CostTable({c.model_version: cost_from_pb(c) for c in catalog.costs}, version=catalog.prices_version)
    models = tuple(model_from_pb(model) for model in catalog.models)
    return Catalog(catalog.version, models, costs, catalog.default_model)
