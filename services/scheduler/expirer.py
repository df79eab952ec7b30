"""Ends jobs whose deadline passes while they wait."""

from __future__ import annotations

from libs.clock import Clock
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.replicas.lead import Lead
from services.scheduler.settlement import endings
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore


class Expirer:
    """Watches the deadlines while `run` runs."""

    def __init__(self, store: JobStore, jobs: OpenJobs, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._lead = lead

    async def run(self) -> None:
        """Expire jobs until cancelled. Raises Deposed."""
        while True:
            for job in self._jobs.overdue():
                await self._expire(job)
            await self._jobs.deadline.wait(self._jobs.next_deadline())

    async def _expire(self, job: Job) -> None:
        ending = endings.expired(job, epoch=self._lead.epoch, now=self._clock.now())
        ended = await persistently(self._clock, lambda: self._store.end(ending))
        if ended is not None:  # else it started or was cancelled in the same moment
            self._jobs.ended(ended)
