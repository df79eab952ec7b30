"""What operators may ask for: dead letters back or gone, workers empty, models held."""

from __future__ import annotations

import asyncio
import logging

from libs import errors
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.generation.model import find_model, means
from libs.ids import JobId, WorkerId
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.catalog import CatalogKeeper
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.operators import alterations
from services.scheduler.operators.operations import Operations
from services.scheduler.placement.fleet import Fleet
from services.scheduler.settlement import charging
from services.scheduler.storage.store import JobStore, StoreUnavailable
from services.scheduler.storage.wishes import Dismissal, Revival

logger = logging.getLogger(__name__)

LETTERS, MOST_LETTERS = 100, 1000  # told at once


class OperatorDesk:
    """Commits what operators ask for and tells the memory. Every method may raise StoreUnavailable or Deposed."""

    def __init__(
        self,
        store: JobStore,
        jobs: OpenJobs,
        fleet: Fleet,
        operations: Operations,
        catalog: CatalogKeeper,
        reconciler: Reconciler,
        clock: Clock,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._fleet = fleet
        self._catalog = catalog
        self._reconciler = reconciler
        self._clock = clock
        self.operations = operations

    async def dead_letters(self, limit: int) -> list[Job]:
        """Return the jobs whose attempts were used up, the latest first; 0 for the usual number of them."""
        return await self._store.dead_letters(min(limit or LETTERS, MOST_LETTERS))

    async def requeue(self, job_id: JobId) -> None:
        """Queue a dead letter again, with all its attempts before it. Raises NotFound."""
        dead = await self._dead(job_id)
        reserved = (charging.confirmation(alterations.revived(dead)),)
        try:
            job = await self._store.alter(Revival(job_id, self._reconciler.epoch, self._clock.now(), reserved))
        except (StoreUnavailable, asyncio.CancelledError):
            self._reconciler.doubt(job_id)  # it may have been committed all the same
            raise
        if job is None:
            raise _no_letter(job_id)
        logger.info("a dead letter was queued again", extra={"job_id": job_id, "tenant_id": job.tenant_id})
        self._jobs.queued(job)

    async def drop(self, job_id: JobId) -> None:
        """Forget a dead letter. Raises NotFound."""
        dismissal = Dismissal(job_id, self._reconciler.epoch, self._clock.now())
        if await self._store.alter(dismissal) is None:
            raise _no_letter(job_id)
        logger.info("a dead letter was dropped", extra={"job_id": job_id})

    async def drain(self, worker_id: str, *, at_once: bool) -> tuple[JobId, ...]:
        """Give a worker nothing new; `at_once` takes back what runs. Returns the jobs that ran there.

        A worker that is not alive is drained for when it comes.
        """
        worker = _named(worker_id)
        await self.operations.drain(worker, wanted=True)
        record = self._fleet.workers().get(worker)
        running = self._fleet.given(record) if record else ()
        logger.info("a worker is drained", extra={"worker_id": worker, "running": len(running), "at_once": at_once})
        if at_once and record is not None:
            await asyncio.gather(*(self._take_back(record, job_id) for job_id in running))
        return running

    async def undrain(self, worker_id: str) -> None:
        """Give a worker jobs again. Raises NotFound for one that is not drained."""
        worker = _named(worker_id)
        if worker not in self.operations.drained:
            drained = ", ".join(sorted(self.operations.drained)) or "none"
            raise errors.NotFound(f"Worker {worker[:63]!r} is not drained. Drained: {drained}.")
        await self.operations.drain(worker, wanted=False)
        logger.info("a worker is used again", extra={"worker_id": worker})

    async def pin(self, model: str, worker_id: str) -> str:
        """Have a worker hold a model; returns its pinned version. Raises NotFound or PreconditionFailed."""
        worker, catalog = _named(worker_id), self._catalog.catalog
        pinned = find_model(model, catalog.models, catalog.default_model).pinned
        record = self._fleet.workers().get(worker)
        if record is None:
            near = ", ".join(sorted(self._fleet.workers())) or "none"
            raise errors.NotFound(f"There is no worker {worker[:63]!r}. Alive: {near}.")
        if pinned not in record.models:
            raise errors.PreconditionFailed(f"Worker {worker} cannot run {pinned}.", reason="MODEL_UNUSABLE")
        await self.operations.pin(worker, pinned, wanted=True)
        return pinned

    async def unpin(self, model: str, worker_id: str) -> str:
        """Let a pinned model be as others; returns its pinned version. Raises NotFound for one that is not pinned."""
        worker = _named(worker_id)
        held = self.operations.pins.get(worker, frozenset())
        pinned = next((one for one in sorted(held) if means(model, one)), None)
        if pinned is None:
            told = ", ".join(sorted(held)) or "nothing"
            raise errors.NotFound(f"Model {model[:63]!r} is not pinned to {worker[:63]!r}, which holds {told}.")
        await self.operations.pin(worker, pinned, wanted=False)
        return pinned

    async def _dead(self, job_id: JobId) -> Job:
        job = await self._store.get(job_id)
        if job is None or job.dead_at is None:
            raise _no_letter(job_id)
        return job

    async def _take_back(self, record: WorkerRecord, job_id: JobId) -> None:
        """Have a worker stop a job; it waits again as soon as the worker has said so."""
        job = self._jobs.recall(self._jobs.joined.runner(job_id))
        if job is None:
            return
        try:
            await self._fleet.server(record).cancel(*job.run, self._reconciler.epoch)
        except errors.DarkroomError as error:  # it ends by itself, or with its worker
            extra = {"job_id": job_id, "worker_id": record.worker_id, "cause": error.reason}
            logger.warning("a job could not be taken back", extra=extra)


def _named(worker_id: str) -> WorkerId:
    if not worker_id:
        raise errors.InvalidRequest("Name the worker.")
    return WorkerId(worker_id)


def _no_letter(job_id: JobId) -> errors.NotFound:
    return errors.NotFound(f"There is no dead letter {job_id[:63]!r}.", reason="JOB_NOT_FOUND")
