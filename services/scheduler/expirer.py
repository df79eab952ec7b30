"""Ends jobs whose deadline passes while they wait."""

from __future__ import annotations

from libs.clock import Clock
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.settlement import endings
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore


class Expirer:
    """Watches the deadlines while `run` runs."""

    def __init__(self, store: JobStore, jobs: OpenJobs, reconciler: Reconciler, clock: Clock) -> None:
        self._store = store
        self._jobs = jobs
        self._reconciler = reconciler
        self._clock = clock

    async def run(self) -> None:
        """Expire jobs until cancelled. Raises Deposed."""
        while True:
            for job in self._jobs.overdue():
                await self._expire(job)
            await self._jobs.deadline.wait(self._jobs.next_deadline())

    async def _expire(self, job: Job) -> None:
        ending = endings.expired(job, epoch=self._reconciler.epoch, now=self._clock.now())
        ended = await persistently(self._clock, lambda: self._store.end(ending))
        if ended is not None:
            self._jobs.ended(ended)
        else:  # it started or was cancelled in the same moment, or it runs for nobody and waits here by mistake
            self._reconciler.doubt(job.id)
