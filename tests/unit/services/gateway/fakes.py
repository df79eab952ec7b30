"""The gateway's peers for unit tests: they keep what they are told and answer what a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from darkroom.v1 import job_pb2
from libs.blobs.memory import MemoryBlobs
from libs.clients.limiter import Decision, Denial, Reservation
from libs.clients.scheduler import Catalog, FoundJob, JobPage, Submission, Submitted
from libs.errors import DarkroomError, NotFound
from libs.generation.cost import CostTable
from libs.generation.model import Model
from libs.ids import JobId, KeyId, TenantId
from libs.secret_files import SigningKeys
from libs.testing.clock import ManualClock
from services.gateway.callers.identity import Caller
from services.gateway.catalog import CatalogView
from services.gateway.uploads.uploads import Uploads

NOW = 1_700_000_000
JOB = JobId("job_01JD0000000000000000000000")
CALLER = Caller(TenantId("acme"), "pro", KeyId("key_1"))
KEYS = SigningKeys("k1", {"k1": b"1" * 32})
SHA = "ab" * 32
MODEL = Model("shapes", "abc", "StableDiffusionPipeline", workers=1)


def catalog(*models: Model) -> CatalogView:
    """Return a view that holds these models, the first as the default."""
    view = CatalogView()
    view.replace(Catalog(1, models, CostTable({}), models[0].id if models else ""))
    return view


def uploads() -> Uploads:
    """Return a keeper of pictures that has none."""
    return Uploads(MemoryBlobs(), FakeLimiter(), ManualClock(NOW))


def job(state: job_pb2.Job.State.ValueType = job_pb2.Job.QUEUED, **fields: Any) -> job_pb2.Job:
    """Return a job of `CALLER`."""
    made = job_pb2.Job(id=JOB, state=state, model="shapes", model_version="shapes@abc", **fields)
    made.create_time.FromSeconds(NOW)
    return made


def image(index: int = 0) -> job_pb2.Image:
    """Return a finished picture."""
    return job_pb2.Image(index=index, sha256=SHA, content_type="image/png", width=64, height=64)


def event(sequence: int = 0, **payload: Any) -> job_pb2.JobEvent:
    """Return an event, like `event(2, started=job_pb2.StartedEvent())`."""
    made = job_pb2.JobEvent(job_id=JOB, sequence=sequence, **payload)
    made.time.FromSeconds(NOW)
    return made


QUEUED = event(1, queued=job_pb2.QueuedEvent())
STARTED = event(2, started=job_pb2.StartedEvent(attempt=1, worker="w"))
COMPLETED = event(3, completed=job_pb2.CompletedEvent(images=[image()]))


@dataclass
class FakeScheduler:
    """Watches play `scripts` one after the other: events, an error to raise, or an asyncio.Event to wait for."""

    log: list[str] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    jobs: dict[str, job_pb2.Job] = field(default_factory=dict)
    known: FoundJob | None = None
    submitted: Submitted | None = None
    failure: DarkroomError | None = None
    scripts: list[Sequence[job_pb2.JobEvent | DarkroomError | asyncio.Event]] = field(default_factory=list)
    watched_after: list[int] = field(default_factory=list)
    watches_open: int = 0
    catalogs: list[Sequence[Catalog | DarkroomError]] = field(default_factory=list)
    queue: job_pb2.QueueStatus = field(default_factory=job_pb2.QueueStatus)

    async def submit(self, submission: Submission) -> Submitted:
        self.log.append("submit")
        self.submissions.append(submission)
        if self.failure is not None:
            raise self.failure
        return self.submitted or Submitted(job(), False, submission.request_digest)

    async def find_job(self, tenant_id: TenantId, request_id: str) -> FoundJob | None:
        self.log.append("find")
        if self.failure is not None and not self.submissions:
            raise self.failure
        return self.known

    async def get_job(self, tenant_id: TenantId, job_id: JobId) -> job_pb2.Job:
        if job_id not in self.jobs:
            raise NotFound("No.", reason="JOB_NOT_FOUND")
        return self.jobs[job_id]

    async def list_jobs(
        self, tenant_id: TenantId, page_size: int, before_id: str, state: job_pb2.Job.State.ValueType
    ) -> JobPage:
        return JobPage((), False)

    async def cancel_job(self, tenant_id: TenantId, job_id: JobId) -> job_pb2.Job:
        return await self.get_job(tenant_id, job_id)

    async def delete_job(self, tenant_id: TenantId, job_id: JobId) -> None:
        self.jobs.pop(job_id)

    async def watch_job(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        self.watched_after.append(after_sequence)
        self.watches_open += 1
        try:
            for step in self.scripts.pop(0) if self.scripts else ():
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, DarkroomError):
                    raise step
                else:
                    yield job_pb2.JobEvent.FromString(step.SerializeToString())
        finally:
            self.watches_open -= 1

    async def watch_catalog(self) -> AsyncGenerator[Catalog, None]:
        for step in self.catalogs.pop(0) if self.catalogs else ():
            if isinstance(step, DarkroomError):
                raise step
            yield step
        if not self.catalogs:
            await asyncio.Event().wait()

    async def estimate_wait(self, tier: str, model_version: str, units: float) -> job_pb2.QueueStatus:
        return self.queue


@dataclass
class FakeLimiter:
    """Grants everything, or denies as a test says."""

    log: list[str] = field(default_factory=list)
    denial: Denial | None = None
    denials: list[Denial] = field(default_factory=list)  # of the first reservations; `denial` is of all
    available_units: float = 1e6
    failure: DarkroomError | None = None
    release_failure: DarkroomError | None = None
    reserved: list[Reservation] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    async def reserve(self, reservation: Reservation, prompt_simhash: int | None = None) -> Decision:
        self.log.append("reserve")
        self.reserved.append(reservation)
        if self.denials:
            return replace(self._decision(), denial=self.denials.pop(0))
        return self._decision()

    async def release(self, tenant_id: TenantId, reservation_id: JobId) -> bool:
        self.log.append("release")
        if self.release_failure is not None:
            raise self.release_failure
        self.released.append(reservation_id)
        return True

    async def peek(self, wanted: Reservation) -> Decision:
        return self._decision()

    def _decision(self) -> Decision:
        if self.failure is not None:
            raise self.failure
        return Decision(self.denial, (("x-ratelimit-remaining-cost", "5"),), self.available_units)
