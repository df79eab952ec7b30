"""What the owner of a job may ask of a replica that does not lead: everything, committed with a note for the leader."""

from __future__ import annotations

import logging

from libs.clock import Clock
from libs.ids import JobId, TenantId
from services.scheduler.desk import DELETE_PATIENCE_S, changing, commit, still_running, unknown
from services.scheduler.job import IllegalChange, Job
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.results.reuse import Terms
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.wishes import Accepted

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25


class StandbyDesk:
    """Commits what owners ask for; there is no memory to tell."""

    def __init__(self, store: JobStore, clock: Clock, *, result_life_s: float) -> None:
        self._store = store
        self._clock = clock
        self._result_life_s = result_life_s

    async def submit(self, job: Job) -> Accepted:
        """Commit a job with the confirmation of its reservation; the leader queues it.

        It is answered, or joins a run, as on the leader: the store decides that in the same transaction, and a run that
        ended before the leader heard of its joiner is over for the joiner too.
        """
        now = self._clock.now()
        return await commit(self._store, job, Terms(now, now + self._result_life_s), NOBODY)

    async def cancel(self, job_id: JobId, tenant: TenantId) -> Job:
        """Have a job never start, or stop; the leader ends it."""
        marked = await self._store.request_cancel(job_id, tenant, NOBODY)
        if marked is None:
            raise unknown(job_id)
        return marked

    async def delete(self, job_id: JobId, tenant: TenantId) -> None:
        """Remove a job's prompt, and its pictures from everybody's reach; an open one is cancelled first.

        The bytes are marked and left to the leader's sweep.
        """
        await self._end(job_id, tenant)
        try:
            marked = await self._store.delete(job_id, tenant, self._clock.now())
        except IllegalChange as error:  # an operator brought it back in that very moment
            raise changing() from error
        if marked is None:
            raise unknown(job_id)
        logger.info("job deleted while standing by", extra={"job_id": job_id})

    async def _end(self, job_id: JobId, tenant: TenantId) -> None:
        if not (await self.cancel(job_id, tenant)).open:
            return
        until_s = self._clock.monotonic() + DELETE_PATIENCE_S
        while self._clock.monotonic() < until_s:
            await self._clock.sleep(_LOOK_EVERY_S)
            job = await self._store.get(job_id, tenant)
            if job is None or not job.open:
                return
        raise still_running()
