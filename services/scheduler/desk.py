"""What the owner of a job may ask for: submit, cancel, delete."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from libs import errors
from libs.alarm import first
from libs.clock import Clock
from libs.ids import JobId, TenantId
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.job import IllegalChange, Job, JobState
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.results import takeover
from services.scheduler.results.removal import Removal
from services.scheduler.results.reuse import Terms
from services.scheduler.results.store import HandOver
from services.scheduler.settlement import charging, endings
from services.scheduler.storage.store import JobStore, StoreUnavailable
from services.scheduler.storage.wishes import Accepted

logger = logging.getLogger(__name__)

DELETE_PATIENCE_S = 8.0  # for a running job to stop; below the deadline of the call
_CANCEL_TRIES = 5  # each is lost only to a change in that very moment


class Desk:
    """Commits what owners ask for and tells the memory."""

    def __init__(
        self,
        store: JobStore,
        jobs: OpenJobs,
        reconciler: Reconciler,
        removal: Removal,
        clock: Clock,
        *,
        result_life_s: float,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._reconciler = reconciler
        self._removal = removal
        self._clock = clock
        self._result_life_s = result_life_s

    async def submit(self, job: Job) -> Accepted:
        """Commit a job with the confirmation of its reservation, and queue it."""
        with self._in_doubt(job.id):
            accepted = await self._accept(job)
        if not accepted.existing:
            self._jobs.accepted(accepted.job)
        elif accepted.job.open and self._jobs.get(accepted.job.id) is None:
            self._reconciler.doubt(accepted.job.id)
        return accepted

    async def cancel(self, job_id: JobId, tenant: TenantId) -> Job:
        """Cancel a job. A waiting one is ended; a running one is told to stop and returned as it is."""
        for _ in range(_CANCEL_TRIES):
            job = await self._store.get(job_id, tenant)
            if job is None:
                raise unknown(job_id)
            told = await self._cancel(job)
            if told is not None:
                return told
        raise changing()

    async def delete(self, job_id: JobId, tenant: TenantId) -> None:
        """Remove a job's prompt and pictures; an open one is cancelled first."""
        job = await self._store.get(job_id, tenant)
        if job is None:
            raise unknown(job_id)
        if job.open:
            await self.cancel(job_id, tenant)
            await self._wait_ended(job_id)
        spare = self._is_drawn_again(job)
        try:
            marked = await self._store.delete(job_id, tenant, self._clock.now(), spare=spare)
        except IllegalChange as error:  # an operator brought it back in that very moment
            raise changing() from error
        if marked is None:
            raise unknown(job_id)
        self._jobs.gone(job_id)
        if marked:
            await self._remove(job_id, marked)

    async def _accept(self, job: Job) -> Accepted:
        now = self._clock.now()
        return await commit(self._store, job, Terms(now, now + self._result_life_s), self._reconciler.epoch)

    async def _cancel(self, job: Job) -> Job | None:
        if job.state is JobState.QUEUED:
            return await self._end_waiting(job)
        if job.state is not JobState.RUNNING:
            return job
        heir = next(iter(self._jobs.joined.joiners(job.id)), None)
        if heir is not None:
            return await self._hand_over(job, heir)
        with self._in_doubt(job.id):
            marked = await self._store.request_cancel(job.id, job.tenant_id, self._reconciler.epoch)
        if marked is None or marked.state is not JobState.RUNNING:
            return None
        self._jobs.stop_signal(job.id).set()
        return marked

    async def _end_waiting(self, job: Job) -> Job | None:
        ending = endings.cancelled(job, epoch=self._reconciler.epoch, now=self._clock.now())
        with self._in_doubt(job.id):
            ended = await self._store.end(ending)
        if ended is not None:
            self._jobs.ended(ended)
        return ended

    async def _hand_over(self, job: Job, heir: JobId) -> Job | None:
        """End a job whose run goes on for who joined it."""
        epoch, now = self._reconciler.epoch, self._clock.now()
        outbox = endings.cancelled(job, epoch=epoch, now=now).outbox
        order = HandOver(job.id, job.attempt, heir, epoch, now, takeover.REASON, outbox)
        with self._in_doubt(job.id), self._in_doubt(heir):
            both = await self._store.hand_over(order)
        if both is None:  # the run ended just now, or the heir left
            await self._reconciler.resolve(heir)
            return None
        gone, runner = both
        logger.info("run handed over", extra={"job_id": job.id, "heir": heir})
        if not self._jobs.handed_over(gone, runner):
            await self._reconciler.resolve(heir)
        return gone

    @contextmanager
    def _in_doubt(self, job_id: JobId) -> Iterator[None]:
        """A change inside that broke off may have been committed all the same, and then it must have its effect."""
        try:
            yield
        except (StoreUnavailable, asyncio.CancelledError):
            self._reconciler.doubt(job_id)
            raise

    async def _wait_ended(self, job_id: JobId) -> None:
        if await first(self._jobs.wait_ended(job_id), self._clock.sleep(DELETE_PATIENCE_S)) == 1:
            raise still_running()

    def _is_drawn_again(self, job: Job) -> bool:
        """Whether an attempt that runs may bring the same pictures; without them it would have to be drawn again."""
        return any(
            (other.model_version, other.spec.prompt) == (job.model_version, job.spec.prompt)
            for other in self._jobs.running()
            if other.id != job.id
        )

    async def _remove(self, job_id: JobId, marked: Sequence[str]) -> None:
        try:
            await self._removal.remove(marked)
        except StoreUnavailable as error:  # they are marked, and the sweep removes them
            logger.warning("pictures are left to the sweep", extra={"job_id": job_id, "cause": str(error)})


def still_running() -> errors.Unavailable:
    """Return the error for a job that is to be deleted and draws on."""
    told = "The job is told to stop and has not stopped yet; delete it again in a moment."
    return errors.Unavailable(told, retry_after_s=2.0)


async def commit(store: JobStore, job: Job, terms: Terms, epoch: int) -> Accepted:
    """Accept a job with the confirmation of its reservation; one that may be answered by another's pictures asks for them."""
    confirmation = charging.confirmation(job)
    if not job.cache_key:
        return await store.accept(job, [confirmation], epoch)
    return await store.accept_reusing(job, [confirmation], terms, epoch)


def unknown(job_id: JobId) -> errors.NotFound:
    """Return the error for a job that is not there, or not the caller's."""
    told = f"There is no job {job_id!r}. Jobs are kept for 30 days, and only their owner sees them."
    return errors.NotFound(told, reason="JOB_NOT_FOUND", metadata={"job_id": job_id})


def changing() -> errors.Unavailable:
    """Return the error for a job that somebody else changes in the same moment."""
    return errors.Unavailable("The job changes just now; ask again.", retry_after_s=1.0)
