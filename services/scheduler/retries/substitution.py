"""Has a fallback model draw jobs whose own model nobody can draw with for a while."""

from __future__ import annotations

import logging

from libs.clock import Clock
from libs.ids import JobId
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.catalog import CatalogKeeper
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.placement.fleet import Fleet
from services.scheduler.retries import fallback
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.wishes import Downgrade

logger = logging.getLogger(__name__)

AFTER_S = 30.0  # without a worker for the model: a restart is over by then
LOOK_EVERY_S = 5.0


class Substitution:
    """Knows the waiting jobs that allow another model, and who may take over."""

    def __init__(
        self,
        store: JobStore,
        jobs: OpenJobs,
        fleet: Fleet,
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
        self._willing: dict[JobId, None] = {}  # waiting jobs that allow another model
        self._unserved_since: dict[str, float] = {}  # by model version
        jobs.followers.append(self)

    def model_for(self, job: Job) -> str:
        """Return the pinned model that may take over a job, and can at once; empty when there is none."""
        other = fallback.substitute(job, self._catalog.catalog)
        return other.pinned if other is not None and self._fleet.can.feasible(other.pinned) else ""

    async def replace(self, job: Job, model_version: str) -> None:
        """Have another model draw a waiting job, and take it up as it then is."""
        downgrade = Downgrade(job.id, self._reconciler.epoch, self._clock.now(), model_version)
        changed = await persistently(self._clock, lambda: self._store.alter(downgrade))
        if changed is None:  # our own commit whose answer was lost, or it waits no more
            await self._reconciler.resolve(job.id)
            return
        extra = {"job_id": job.id, "model": job.model_version, "fallback": model_version}
        logger.info("a fallback takes over", extra=extra)
        await self._reconciler.waits(changed)

    async def run(self) -> None:
        """Look after waiting jobs until cancelled. Raises Deposed."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            waiting = [job for job_id in self._willing if (job := self._jobs.get(job_id)) is not None]
            self._look({job.model_version for job in waiting})
            for job in waiting:
                if self._is_overdue(job.model_version) and (other := self.model_for(job)):
                    await self.replace(job, other)

    def queued(self, job: Job) -> None:
        """A job waits (again)."""
        if job.spec.allow_downgrade and not job.downgraded_from:
            self._willing[job.id] = None
        else:
            self._willing.pop(job.id, None)

    def started(self, job: Job, _began_at: float) -> None:
        """An attempt runs."""
        self._willing.pop(job.id, None)

    def ended(self, job: Job) -> None:
        """A job is in its final state."""

    def gone(self, job_id: JobId) -> None:
        """A job is not open any more."""
        self._willing.pop(job_id, None)

    def _look(self, models: set[str]) -> None:
        now = self._clock.now()
        unserved = {model for model in models if not self._fleet.can.feasible(model)}
        self._unserved_since = {model: self._unserved_since.get(model, now) for model in unserved}

    def _is_overdue(self, model_version: str) -> bool:
        since = self._unserved_since.get(model_version)
        return since is not None and self._clock.now() - since >= AFTER_S
