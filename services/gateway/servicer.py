"""GenerationService: convert, call, convert. What is done stands in admission, relay, downloads and estimating."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from google.api import httpbody_pb2

from darkroom.v1 import generation_service_pb2 as pb
from darkroom.v1 import job_pb2
from darkroom.v1.generation_service_pb2_grpc import GenerationServiceServicer
from libs.clock import Clock
from libs.errors import InvalidRequest, NotFound, Violation
from libs.ids import JobId, TenantId
from libs.rpc import headers
from services.gateway.callers.identity import Context, caller_of, headers_of, owner_of
from services.gateway.callers.owners import as_owner, owner_of_job
from services.gateway.callers.withdrawals import Withdrawals
from services.gateway.creating.creation import Creation
from services.gateway.creating.drafts import Draft
from services.gateway.creating.estimating import Estimator
from services.gateway.creating.parsing import parse_draft
from services.gateway.peers import Scheduler
from services.gateway.reading import sse
from services.gateway.reading.downloads import Downloads
from services.gateway.reading.links import Links
from services.gateway.reading.page_tokens import PageTokens, page_size
from services.gateway.reading.presentation import Presenter, job_headers
from services.gateway.reading.relay import EventRelay

_JOB_ID = re.compile(r"job_[0-9A-HJKMNP-TV-Z]{26}")
_STREAM_HEADERS = [("cache-control", "no-cache"), ("x-accel-buffering", "no")]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the servicer calls."""

    scheduler: Scheduler
    creation: Creation
    estimator: Estimator
    relay: EventRelay
    downloads: Downloads
    presenter: Presenter
    links: Links
    pages: PageTokens
    withdrawals: Withdrawals
    clock: Clock


class GenerationServicer(GenerationServiceServicer):
    """The public API of jobs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def CreateJob(self, request: pb.CreateJobRequest, context: Context) -> job_pb2.Job:
        """Accept a job."""
        return await self._parts.creation.from_message(caller_of(context), request, headers_of(context))

    async def CreateJobJson(self, request: pb.CreateJobJsonRequest, context: Context) -> job_pb2.Job:
        """Accept a job from the body of a REST call."""
        return await self._parts.creation.from_json(caller_of(context), request.body.data, headers_of(context))

    async def EstimateJob(self, request: pb.EstimateJobRequest, context: Context) -> pb.Estimate:
        """Price a request."""
        return await self._parts.estimator.estimate(caller_of(context), Draft(request.spec))

    async def EstimateJobJson(self, request: pb.EstimateJobJsonRequest, context: Context) -> pb.Estimate:
        """Price the body of a REST call."""
        return await self._parts.estimator.estimate(caller_of(context), parse_draft(request.body.data))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> job_pb2.Job:
        """Read a job."""
        job_id, scheduler = _job_id(request.id), self._parts.scheduler
        return self._shown(await as_owner(caller_of(context), lambda owner: scheduler.get_job(owner, job_id)))

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> job_pb2.Job:
        """Cancel a job."""
        job_id, scheduler = _job_id(request.id), self._parts.scheduler
        return self._shown(await as_owner(caller_of(context), lambda owner: scheduler.cancel_job(owner, job_id)))

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Context) -> pb.DeleteJobResponse:
        """Remove a job's prompt and pictures."""
        job_id, scheduler = _job_id(request.id), self._parts.scheduler
        await as_owner(caller_of(context), lambda owner: scheduler.delete_job(owner, job_id))
        return pb.DeleteJobResponse()

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """List the caller's jobs."""
        tenant_id, parts, state = owner_of(context).tenant_id, self._parts, _known_state(request.state)
        before = "".join(parts.pages.read(request.page_token, tenant_id, [str(state)]))
        page = await parts.scheduler.list_jobs(tenant_id, page_size(request.page_size), before, state)
        following = parts.pages.make(tenant_id, [str(state)], [page.jobs[-1].id]) if page.more and page.jobs else ""
        return pb.ListJobsResponse(jobs=[parts.presenter.job(job) for job in page.jobs], next_page_token=following)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[job_pb2.JobEvent]:
        """Follow a job, typed."""
        tenant_id, job_id = await self._owned(context, request.id)
        with self._parts.withdrawals.watched(caller_of(context)) as standing:
            followed = self._parts.relay.events(tenant_id, job_id, request.after_sequence, standing)
            async with aclosing(followed) as events:
                async for event in events:
                    yield event

    async def StreamJobEvents(
        self, request: pb.StreamJobEventsRequest, context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Follow a job by server-sent events; with a token no key is needed."""
        tenant_id, job_id = await self._reader(request, context)
        after = sse.last_event_id(headers_of(context).get("last-event-id", ""))
        headers.add(_STREAM_HEADERS)
        begun = False
        with self._parts.withdrawals.watched(None if request.token else caller_of(context)) as standing:
            async with aclosing(self._parts.relay.frames(tenant_id, job_id, after, standing)) as frames:
                async for data in frames:
                    yield httpbody_pb2.HttpBody(content_type=sse.CONTENT_TYPE, data=data)
                    begun = True
        if not begun:  # all was seen before: 204 tells a browser not to come back
            headers.add([("x-http-code", "204")])
            yield httpbody_pb2.HttpBody(content_type=sse.CONTENT_TYPE)

    async def DownloadImage(
        self, request: pb.DownloadImageRequest, context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Read a picture with a key."""
        tenant_id, job_id = await self._owned(context, request.id)
        unchanged = headers_of(context).get("if-none-match", "")
        with self._parts.withdrawals.watched(caller_of(context)) as standing:
            wanted = self._parts.downloads.image(tenant_id, job_id, request.index, unchanged, standing)
            async with aclosing(wanted) as bodies:
                async for body in bodies:
                    yield body

    async def DownloadBlob(
        self, request: pb.DownloadBlobRequest, context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Read a picture through a signed link."""
        unchanged = headers_of(context).get("if-none-match", "")
        async with aclosing(self._parts.downloads.linked(request, unchanged)) as bodies:
            async for body in bodies:
                yield body

    def _shown(self, job: job_pb2.Job) -> job_pb2.Job:
        headers.add(job_headers(job))
        return self._parts.presenter.job(job)

    async def _owned(self, context: Context, text: str) -> tuple[TenantId, JobId]:
        """Return whose job the caller names by its id; raises NotFound for what is none."""
        job_id = _job_id(text)
        return await owner_of_job(self._parts.scheduler, caller_of(context), job_id), job_id

    async def _reader(self, request: pb.StreamJobEventsRequest, context: Context) -> tuple[TenantId, JobId]:
        """Return whose job is followed: the token's tenant, when it is for this job, else the caller."""
        if not request.token:
            return await self._owned(context, request.id)
        linked = self._parts.links.events(request.token, self._parts.clock.now())
        if linked.job_id != request.id:
            raise NotFound("This link is for another job. Nothing was charged.", reason="LINK_INVALID")
        return linked.tenant_id, linked.job_id


def _job_id(text: str) -> JobId:
    """Return a job id; what cannot be one is a job that does not exist."""
    if not _JOB_ID.fullmatch(text):
        raise NotFound("There is no such job for this key. Nothing was charged.", reason="JOB_NOT_FOUND")
    return JobId(text)


def _known_state(state: job_pb2.Job.State.ValueType) -> job_pb2.Job.State.ValueType:
    if state not in job_pb2.Job.State.values():
        wrong = Violation("state", f"must be one of {', '.join(job_pb2.Job.State.keys()[1:])}")
        raise InvalidRequest(f"The list cannot be filtered: state {wrong.description}.", violations=[wrong])
    return state
