"""The durable queue's promises without a disk: for unit tests and for trying things out. One process, one loop."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

from libs.ids import JobId, TenantId, WorkerId
from services.scheduler.job import AttemptRecord, DurableEvent, Job, JobState, OutboxMessage
from services.scheduler.operators.alterations import altered
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.replicas.memory_lead import MemoryLead
from services.scheduler.results.memory_results import Blob, MemoryResults
from services.scheduler.results.memory_retention import MemoryRetention
from services.scheduler.results.reuse import Terms
from services.scheduler.storage import changes
from services.scheduler.storage.changes import Step
from services.scheduler.storage.memory_outbox import MemoryOutbox
from services.scheduler.storage.store import REQUEST_ID_LIFE_S, OpenTotal, PendingMessage
from services.scheduler.storage.wishes import Accepted, Alteration, Ending, Mark, Requeue, Start
from services.scheduler.webhooks.memory_deliveries import MemoryDeliveries
from services.scheduler.webhooks.store import Delivery


class MemoryStore(MemoryResults, MemoryLead, MemoryDeliveries, MemoryRetention, MemoryOutbox):
    """A JobStore in dictionaries. No method awaits in the middle, so each is one transaction."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[JobId, Job] = {}
        self._deleted: set[JobId] = set()
        self._attempts: dict[JobId, list[AttemptRecord]] = {}
        self._events: dict[JobId, list[DurableEvent]] = {}
        self._outbox: dict[int, tuple[PendingMessage, float]] = {}  # by id, with the time it is due
        self._deliveries: dict[tuple[JobId, int], Delivery] = {}
        self._blobs: dict[str, Blob] = {}
        self._documents: dict[str, str] = {}
        self._last_message = 0

    async def accept(self, job: Job, outbox: Sequence[OutboxMessage], epoch: int = NOBODY) -> Accepted:
        """Keep a new job, or return the one that its id or its idempotency key led to before."""
        return self._accept(job, outbox, None, epoch)

    async def accept_reusing(
        self, job: Job, outbox: Sequence[OutboxMessage], terms: Terms, epoch: int = NOBODY
    ) -> Accepted:
        """Keep a new job that others may answer."""
        return self._accept(job, outbox, terms, epoch)

    def _accept(self, job: Job, outbox: Sequence[OutboxMessage], terms: Terms | None, epoch: int) -> Accepted:
        known = self._jobs.get(job.id) or self._by_request(job.tenant_id, job.request_id, job.created_at)
        if known is not None:
            return Accepted(known, existing=True)
        written = self._shelf(job).accept(job, terms, outbox)
        self._write(written.step, written.outbox)
        self._leave_note(job.id, epoch)
        return Accepted(written.step.job, existing=False)

    async def find_request(self, tenant: TenantId, request_id: str, now: float) -> Job | None:
        """Return the job of an idempotency key that is not too old."""
        return self._by_request(tenant, request_id, now)

    async def get(self, job_id: JobId, tenant: TenantId | None = None) -> Job | None:
        """Return a job; None when it is unknown, deleted or of another tenant."""
        job = None if job_id in self._deleted else self._jobs.get(job_id)
        return job if job is not None and tenant in (None, job.tenant_id) else None

    async def list_jobs(self, tenant: TenantId, before: str, limit: int, state: JobState | None) -> list[Job]:
        """Return jobs newest first."""
        jobs = [
            job
            for job_id, job in self._jobs.items()
            if job.tenant_id == tenant
            and job_id not in self._deleted
            and (not before or job_id < before)
            and state in (None, job.state)
        ]
        return sorted(jobs, key=lambda job: job.id, reverse=True)[:limit]

    async def attempts(self, job_id: JobId) -> list[AttemptRecord]:
        """Return a job's attempts in order."""
        return list(self._attempts.get(job_id, ()))

    async def events(self, job_id: JobId, after_seq: int) -> list[DurableEvent]:
        """Return a job's events with seq above `after_seq`."""
        return self._events.get(job_id, [])[max(after_seq, 0) :]

    async def start(self, start: Start) -> Job | None:
        """Make a queued job RUNNING."""
        job = self._fenced(start.job_id, start.epoch)
        return self._apply(changes.started(job, start) if job else None)

    async def end(self, ending: Ending) -> Job | None:
        """Bring a job to its final state."""
        job = self._fenced(ending.job_id, ending.epoch)
        return self._apply(changes.ended(job, ending) if job else None, ending.outbox)

    async def requeue(self, requeue: Requeue) -> Job | None:
        """Close the attempt and queue the job again."""
        job = self._fenced(requeue.job_id, requeue.epoch)
        return self._apply(changes.requeued(job, requeue) if job else None)

    async def alter(self, alteration: Alteration) -> Job | None:
        """Bring a dead letter back, forget it, or give a waiting job another model."""
        job = self._fenced(alteration.job_id, alteration.epoch)
        return self._apply(altered(job, alteration) if job else None, alteration.outbox)

    async def dead_letters(self, limit: int) -> list[Job]:
        """Return the jobs whose attempts were used up."""
        dead = [job for job in self._jobs.values() if job.dead_at is not None and job.id not in self._deleted]
        return sorted(dead, key=lambda job: (job.dead_at or 0.0, job.id), reverse=True)[:limit]

    async def mark(self, mark: Mark) -> bool:
        """Keep an attempt's checkpoint."""
        self._fenced(mark.job_id, mark.epoch)
        attempts = self._attempts.get(mark.job_id, [])
        for index, record in enumerate(attempts):
            marked = changes.marked(record, mark) if record.attempt == mark.attempt else None
            if marked is not None:
                attempts[index] = marked
                return True
        return False

    async def request_cancel(self, job_id: JobId, tenant: TenantId, epoch: int = NOBODY) -> Job | None:
        """Mark an open job for cancelling."""
        job = await self.get(job_id, tenant)
        if job is None:
            return None
        self._jobs[job_id] = changes.cancel_requested(job)
        self._leave_note(job_id, epoch)
        return self._jobs[job_id]

    async def delete(
        self, job_id: JobId, tenant: TenantId, now: float, *, spare: bool = False
    ) -> tuple[str, ...] | None:
        """Forget an ended job; mark and return the pictures that nobody refers to any more."""
        job = await self.get(job_id, tenant)
        if job is None:
            return None
        self._jobs[job_id] = changes.forgotten(job)
        self._deleted.add(job_id)
        self._events.pop(job_id, None)
        self._forget_deliveries(job_id)
        referred = {image.sha256 for other in self._jobs.values() for image in other.images}
        return self._let_go({image.sha256 for image in job.images} - referred, now, spare=spare)

    async def open_jobs(self, behind: Job | None = None, limit: int | None = None) -> list[Job]:
        """Return QUEUED and RUNNING jobs, oldest first."""
        after = (behind.created_at, behind.id) if behind else (-math.inf, "")
        found = [job for job in self._jobs.values() if job.open and (job.created_at, job.id) > after]
        return sorted(found, key=lambda job: (job.created_at, job.id))[:limit]

    async def open_totals(self) -> list[OpenTotal]:
        """Return how much waits and runs, in no order."""
        sums: dict[tuple[str, WorkerId], tuple[int, float]] = {}
        for job in self._jobs.values():
            if job.open:
                key = job.model_version, job.worker if job.state is JobState.RUNNING else WorkerId("")
                jobs, units = sums.get(key, (0, 0.0))
                sums[key] = jobs + 1, units + job.estimated_units
        return [OpenTotal(*key, *total) for key, total in sums.items()]

    async def ping(self) -> None:
        """Answer."""

    async def close(self) -> None:
        """Nothing to give back."""

    def _by_request(self, tenant: TenantId, request_id: str, now: float) -> Job | None:
        matches = (
            job for job in self._jobs.values() if request_id and (job.tenant_id, job.request_id) == (tenant, request_id)
        )
        return next((job for job in matches if job.created_at > now - REQUEST_ID_LIFE_S), None)

    def _fenced(self, job_id: JobId, epoch: int) -> Job | None:
        self._check(epoch)
        return self._jobs.get(job_id)

    def _apply(self, step: Step | None, outbox: Sequence[OutboxMessage] = ()) -> Job | None:
        if step is None:
            return None
        self._write(step, outbox)
        return step.job

    def _write(self, step: Step, outbox: Sequence[OutboxMessage]) -> None:
        """Write a step whole or, when something cannot be kept as JSON, not at all."""
        job_id = step.job.id
        seq = len(self._events.get(job_id, ()))
        payloads = [json.loads(json.dumps(dict(event.payload))) for event in step.events]
        events = [
            DurableEvent(job_id, seq + number, event.kind, event.time, payload)
            for number, (event, payload) in enumerate(zip(step.events, payloads, strict=True), start=1)
        ]
        bodies = [(message.kind, json.loads(json.dumps(dict(message.payload)))) for message in outbox]
        self._keep(step.job if events else dataclasses.replace(step.job, images=()))
        self._jobs[job_id] = step.job
        self._events.setdefault(job_id, []).extend(events)
        self._queue_deliveries(step.job, step.events, seq + 1)
        self._write_attempt(step)
        for kind, body in bodies:
            self._last_message += 1
            self._outbox[self._last_message] = PendingMessage(self._last_message, kind, body, 0), 0.0

    def _write_attempt(self, step: Step) -> None:
        attempts = self._attempts.setdefault(step.job.id, [])
        if step.fresh:
            attempts[:] = [dataclasses.replace(record, checkpoint_ref="", checkpoint_step=0) for record in attempts]
        if step.opened is not None:
            attempts.append(step.opened)
        if step.closed is not None:
            end = step.closed
            attempts[end.attempt - 1] = dataclasses.replace(
                attempts[end.attempt - 1],
                outcome=end.outcome,
                reason=end.reason,
                ended_at=end.ended_at,
                gpu_ms=end.gpu_ms,
            )
