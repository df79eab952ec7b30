"""SchedulerService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from darkroom.scheduler.v1 import scheduler_service_pb2 as pb
from darkroom.scheduler.v1 import scheduler_service_pb2_grpc as pb_grpc
from darkroom.v1 import job_pb2
from libs.clock import Clock
from libs.ids import JobId, TenantId
from libs.telemetry import tracing
from services.scheduler import wire
from services.scheduler.catalog import CatalogKeeper
from services.scheduler.desk import Desk, unknown
from services.scheduler.events import wire as event_wire
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.events.watch_inbox import Transient
from services.scheduler.faults import told_to_callers
from services.scheduler.forecast.estimator import Estimator
from services.scheduler.job import DurableEvent, Job
from services.scheduler.replicas.standby_desk import StandbyDesk
from services.scheduler.results.keys import Keys
from services.scheduler.storage.store import JobStore

Context = grpc.aio.ServicerContext[Any, Any]

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class Parts:
    """What the servicer calls."""

    store: JobStore
    desk: Desk | StandbyDesk
    hub: WatchHub
    estimator: Estimator
    catalog: CatalogKeeper
    clock: Clock
    keys: Keys


class SchedulerServicer(pb_grpc.SchedulerServiceServicer):
    """The scheduler as the gateway sees it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Submit(self, request: pb.SubmitRequest, _context: Context) -> pb.SubmitResponse:
        """Commit a job."""
        now = self._parts.clock.now()
        job = wire.job_from_submit(request, now=now, traceparent=tracing.current_traceparent())
        with told_to_callers():
            accepted = await self._parts.desk.submit(self._parts.keys.keyed(job))
            public = await self._public(accepted.job)
        return pb.SubmitResponse(job=public, existing=accepted.existing, request_digest=accepted.job.request_digest)

    async def FindJob(self, request: pb.FindJobRequest, _context: Context) -> pb.FindJobResponse:
        """Find the job of an idempotency key."""
        with told_to_callers():
            tenant, now = TenantId(request.tenant_id), self._parts.clock.now()
            job = await self._parts.store.find_request(tenant, request.request_id, now)
            if job is None:
                return pb.FindJobResponse()
            return pb.FindJobResponse(job=await self._public(job), request_digest=job.request_digest)

    async def GetJob(self, request: pb.GetJobRequest, _context: Context) -> job_pb2.Job:
        """Read a job."""
        with told_to_callers():
            return await self._public(await self._owned(request.job_id, request.tenant_id))

    async def ListJobs(self, request: pb.ListJobsRequest, _context: Context) -> pb.ListJobsResponse:
        """List jobs; their attempts are told by GetJob only."""
        size = min(request.page_size or MAX_PAGE, MAX_PAGE)
        state = wire.state_from_pb(request.state)
        with told_to_callers():
            jobs = await self._parts.store.list_jobs(TenantId(request.tenant_id), request.before_id, size + 1, state)
        return pb.ListJobsResponse(jobs=[self._brief(job) for job in jobs[:size]], more=len(jobs) > size)

    async def CancelJob(self, request: pb.CancelJobRequest, _context: Context) -> job_pb2.Job:
        """Cancel a job; the answer is the job as it is then."""
        with told_to_callers():
            job = await self._parts.desk.cancel(JobId(request.job_id), TenantId(request.tenant_id))
            return await self._public(job)

    async def DeleteJob(self, request: pb.DeleteJobRequest, _context: Context) -> pb.DeleteJobResponse:
        """Remove a job's prompt and pictures."""
        with told_to_callers():
            await self._parts.desk.delete(JobId(request.job_id), TenantId(request.tenant_id))
        return pb.DeleteJobResponse()

    async def WatchJob(self, request: pb.WatchJobRequest, _context: Context) -> AsyncIterator[job_pb2.JobEvent]:
        """Send what happened to a job and what happens."""
        with told_to_callers():
            job = await self._owned(request.job_id, request.tenant_id)
            async with aclosing(self._parts.hub.watch(job.id, request.after_sequence)) as events:
                async for event in events:
                    yield self._event(job, event)

    async def WatchCatalog(self, _request: pb.WatchCatalogRequest, _context: Context) -> AsyncIterator[pb.Catalog]:
        """Send the catalog, then again after every change."""
        async with aclosing(self._parts.catalog.watch()) as catalogs:
            async for catalog in catalogs:
                yield wire.catalog_to_pb(catalog)

    async def EstimateWait(self, request: pb.EstimateWaitRequest, _context: Context) -> job_pb2.QueueStatus:
        """Estimate the wait of a job that would come now."""
        return wire.queue_to_pb(self._parts.estimator.of_new(request.tier, request.model_version, request.units))

    async def _owned(self, job_id: str, tenant_id: str) -> Job:
        job = await self._parts.store.get(JobId(job_id), TenantId(tenant_id))
        if job is None:
            raise unknown(JobId(job_id))
        return job

    async def _public(self, job: Job) -> job_pb2.Job:
        attempts = await self._parts.store.attempts(job.id) if job.attempt else []
        progress = self._parts.hub.progress(job.id)
        return wire.job_to_pb(job, attempts=attempts, queue=self._parts.estimator.of_job(job), progress=progress)

    def _brief(self, job: Job) -> job_pb2.Job:
        queue, progress = self._parts.estimator.of_job(job), self._parts.hub.progress(job.id)
        return wire.job_to_pb(job, queue=queue, progress=progress)

    def _event(self, job: Job, event: DurableEvent | Transient) -> job_pb2.JobEvent:
        if isinstance(event, DurableEvent):
            queue = self._parts.estimator.of_job(job) if event.kind == "queued" else None
            return event_wire.durable_to_pb(event, queue)
        return event_wire.transient_to_pb(job.id, event, self._parts.clock.now())
