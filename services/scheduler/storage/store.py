"""The durable queue as a promise; `sql_store` and `memory_store` keep it, one contract suite checks both.

Acknowledged means committed: when a method returns, what it did survives the death of the process. Every change
of a job writes its durable event in the same transaction, with the next `seq` of that job, its deliveries and its
outbox messages too. Writes of the leader carry its epoch and raise Deposed when a newer leader exists; changes of an
attempt apply only while (job, attempt) is the one that runs, else they return None: a late worker changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from libs.ids import JobId, TenantId, WorkerId
from services.scheduler.job import AttemptRecord, DurableEvent, Job, JobState, OutboxMessage
from services.scheduler.replicas.lead_store import NOBODY, LeadStore
from services.scheduler.results.store import ResultStore
from services.scheduler.storage.wishes import Accepted, Alteration, Ending, Mark, Requeue, Start
from services.scheduler.webhooks.store import DeliveryStore

REQUEST_ID_LIFE_S = 24 * 3600.0  # an idempotency key leads to its job for this long


class Deposed(Exception):
    """Another leader has taken over; the process must stop dispatching and exit."""


class StoreUnavailable(Exception):
    """The database does not answer; nothing was changed as far as the caller may assume."""


class Contended(StoreUnavailable):
    """Another process changes the same rows at this moment. Nothing was changed; the database answers others."""


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """A message of the outbox that has not arrived yet."""

    id: int
    kind: str
    payload: dict[str, Any]
    tries: int


@dataclass(frozen=True, slots=True)
class OpenTotal:
    """Open jobs of one model: those on one worker, or, with an empty `worker`, those that wait."""

    model_version: str
    worker: WorkerId
    jobs: int
    units: float


class JobStore(LeadStore, ResultStore, DeliveryStore, Protocol):
    """The durable queue. Every method may raise StoreUnavailable within a second or so."""

    async def accept(self, job: Job, outbox: Sequence[OutboxMessage], epoch: int = NOBODY) -> Accepted:
        """Commit a new job with its `queued` event, or return the one its (tenant, request_id) led to before.

        Unless `epoch` leads, a note tells the leader of it.
        """
        ...

    async def find_request(self, tenant: TenantId, request_id: str, now: float) -> Job | None:
        """Return the job of an idempotency key that is not older than REQUEST_ID_LIFE_S."""
        ...

    async def get(self, job_id: JobId, tenant: TenantId | None = None) -> Job | None:
        """Return a job with its images and stages; None when it is unknown, deleted or of another tenant."""
        ...

    async def list_jobs(self, tenant: TenantId, before: str, limit: int, state: JobState | None) -> list[Job]:
        """Return jobs newest first, with ids below `before` when it is not empty."""
        ...

    async def attempts(self, job_id: JobId) -> list[AttemptRecord]:
        """Return a job's attempts in order."""
        ...

    async def events(self, job_id: JobId, after_seq: int) -> list[DurableEvent]:
        """Return a job's durable events with seq above `after_seq`, in order."""
        ...

    async def start(self, start: Start) -> Job | None:
        """Make a queued job RUNNING with attempt `start.attempt`.

        None unless it is QUEUED with one less and its owner has not asked to cancel it.
        """
        ...

    async def end(self, ending: Ending) -> Job | None:
        """Bring a job to its final state; writes `image` events before the final one. None when it was too late."""
        ...

    async def requeue(self, requeue: Requeue) -> Job | None:
        """Close the attempt and queue the job again, with a new `queued` event. None when it was too late."""
        ...

    async def alter(self, alteration: Alteration) -> Job | None:
        """Bring a dead letter back, forget it, or give a waiting job another model. None when it was too late."""
        ...

    async def dead_letters(self, limit: int) -> list[Job]:
        """Return the jobs whose attempts were used up, the latest first."""
        ...

    async def mark(self, mark: Mark) -> bool:
        """Keep an attempt's checkpoint in its row; the job is not touched and nobody is told.

        False when the attempt does not run any more, or has a checkpoint of as many steps.
        """
        ...

    async def request_cancel(self, job_id: JobId, tenant: TenantId, epoch: int = NOBODY) -> Job | None:
        """Mark an open job for cancelling (durable) and return it; an ended one is returned as it is.

        It never starts from then on. Unless `epoch` leads, a note tells the leader, who ends it.
        """
        ...

    async def delete(
        self, job_id: JobId, tenant: TenantId, now: float, *, spare: bool = False
    ) -> tuple[str, ...] | None:
        """Remove prompt, labels, images, events and deliveries of an ended job.

        Pictures that no other job refers to are marked as `doom` does; returns the SHA-256 of those that were not
        marked before, None when there is no such job. With `spare` they are only forgotten: a run that brings them
        may have them, else they go as what nothing tells of. An open job must be ended first.
        """
        ...

    async def open_jobs(self, behind: Job | None = None, limit: int | None = None) -> list[Job]:
        """Return QUEUED and RUNNING jobs, oldest first: what a leader rebuilds its memory from, page by page.

        Only those behind a job by age, and at most `limit`, if these are given.
        """
        ...

    async def open_totals(self) -> list[OpenTotal]:
        """Return how much waits and runs, in no order: what a replica that does not lead knows of it."""
        ...

    async def pending_messages(self, limit: int, now: float) -> list[PendingMessage]:
        """Return outbox messages that are due, oldest first."""
        ...

    async def messages_sent(self, ids: Sequence[int]) -> None:
        """Remove messages that have arrived."""
        ...

    async def message_failed(self, message_id: int, retry_at: float) -> None:
        """Count a try and make the message due again at `retry_at`."""
        ...

    async def save_document(self, name: str, document: dict[str, Any], epoch: int) -> None:
        """Keep a small JSON document (the catalog, the cost table) under a name. Raises Deposed."""
        ...

    async def load_document(self, name: str) -> dict[str, Any] | None:
        """Return the document of a name, or None. Raises ValueError or TypeError when what lies there is none."""
        ...

    async def rename_document(self, name: str, new_name: str, epoch: int) -> None:
        """Give a document, whatever it holds, another name, in the place of what has that name. Raises Deposed."""
        ...

    async def ping(self) -> None:
        """Return when the database answers."""
        ...

    async def close(self) -> None:
        """Give every connection back."""
        ...
