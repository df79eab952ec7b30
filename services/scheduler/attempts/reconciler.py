"""Brings memory in line with the store where the two may differ: at the start, and after an answer was lost.

A change whose answer did not arrive may have been committed. Its job is in doubt until it is read again; a job that
is RUNNING in the store while nobody follows it here was never sent to its worker, or is followed no more.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import logging
from collections.abc import AsyncIterator

from libs.alarm import Alarm
from libs.clock import Clock
from libs.ids import JobId
from services.scheduler.job import Job, JobState
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.replicas.lead import Lead
from services.scheduler.results.reuse import HIT
from services.scheduler.settlement import endings
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.wishes import Requeue

logger = logging.getLogger(__name__)

PAGE = 250  # jobs that are read at once, in 20 ms or so
LOOKED_AT_ONCE = 16  # jobs in doubt: there are thousands after a database that stood still
LOOKS_S = (1.0, 5.0, 30.0)  # a commit that timed out here may still land there a little later


class Reconciler:
    """Knows the leader's epoch, and which jobs are in doubt."""

    def __init__(self, store: JobStore, jobs: OpenJobs, clock: Clock, lead: Lead) -> None:
        self._lead = lead
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._doubts: list[tuple[float, int, JobId]] = []  # a heap: when to look, how often it was, the job
        self._alarm = Alarm(clock)

    @property
    def epoch(self) -> int:
        """The epoch of the lead, which every write of the leader carries."""
        return self._lead.epoch

    async def recover(self) -> list[Job]:
        """Rebuild memory from the store. Returns the jobs whose attempts run since an earlier leader."""
        orphans = []
        async for job in self._open_jobs():
            if job.state is JobState.RUNNING:
                orphans.append(job)
                self._jobs.taken_up(job)
            else:
                await self.waits(job)
        logger.info("open jobs read", extra={"waiting": len(self._jobs.ordering), "orphans": len(orphans)})
        return orphans

    def doubt(self, job_id: JobId) -> None:
        """Look at a job later: it may have been committed although the answer was lost."""
        heapq.heappush(self._doubts, (self._clock.now() + LOOKS_S[0], 0, job_id))
        self._alarm.ring()

    async def run(self) -> None:
        """Look at jobs in doubt until cancelled."""
        while True:
            await self._alarm.wait(self._doubts[0][0] if self._doubts else None)
            while due := self._due():
                await asyncio.gather(*(self._look(looks, job_id) for _, looks, job_id in due))

    async def resolve(self, job_id: JobId) -> Job | None:
        """Read a job and take it as the store has it. Waits for the database."""
        job = await persistently(self._clock, lambda: self._store.get(job_id))
        if job is None:
            self._jobs.gone(job_id)
        elif job.state is JobState.QUEUED:
            await self.waits(job)
        elif job.state is JobState.RUNNING:
            await self._running(job)
        elif self._jobs.get(job_id) is not None:
            self._jobs.ended(job)
        return job

    async def told_of(self, job_id: JobId) -> None:
        """Take in a job that another replica accepted, or wants stopped. One that found its pictures has ended already."""
        if self._jobs.get(job_id) is None:
            job = await persistently(self._clock, lambda: self._store.get(job_id))
            new = job is not None and not job.attempt and (job.cache == HIT or (job.open and not job.cancel_requested))
            if job is not None and new and self._jobs.get(job_id) is None:
                self._jobs.accepted(job)
                return
        await self.resolve(job_id)

    async def waits(self, job: Job) -> None:
        """Take up a job that waits (again); one that its owner asked to cancel while it ran ends instead.

        One that begins again just now is left to its begin.
        """
        if job.id in self._jobs.beginning:
            self._stop_if_asked(job)
            return
        if not job.cancel_requested:
            self._jobs.queued(job)
            return
        ending = endings.cancelled(job, epoch=self.epoch, now=self._clock.now())
        ended = await persistently(self._clock, lambda: self._store.end(ending))
        if ended is not None:
            self._jobs.ended(ended)
        else:  # it had ended before: by its owner, or by our own commit whose answer was lost
            await self.resolve(job.id)

    async def _running(self, job: Job) -> None:
        if self._jobs.runs(job.id) or job.id in self._jobs.beginning:
            self._stop_if_asked(job)
        else:
            await self.give_back(job, "refused", "UNAVAILABLE")

    def _stop_if_asked(self, job: Job) -> None:
        if job.cancel_requested:  # the answer to its owner's wish was lost
            self._jobs.stop_signal(job.id).set()

    async def _open_jobs(self) -> AsyncIterator[Job]:
        """Read in pages: a million jobs as rows and as jobs at once would not fit, and others want their turn."""
        last: Job | None = None
        while True:
            page = await persistently(self._clock, functools.partial(self._store.open_jobs, last, PAGE))
            for last in page:
                yield last
            if len(page) < PAGE:
                return

    def _due(self) -> list[tuple[float, int, JobId]]:
        due = list[tuple[float, int, JobId]]()
        while self._doubts and self._doubts[0][0] <= self._clock.now() and len(due) < LOOKED_AT_ONCE:
            due.append(heapq.heappop(self._doubts))
        return due

    async def _look(self, looks: int, job_id: JobId) -> None:
        await self.resolve(job_id)  # whatever stands there now, the change in doubt may still come
        if looks + 1 < len(LOOKS_S):
            heapq.heappush(self._doubts, (self._clock.now() + LOOKS_S[looks + 1], looks + 1, job_id))

    async def give_back(self, job: Job, outcome: str, reason: str) -> None:
        """Close an attempt that nobody follows, uncounted; its job waits again. Waits for the database."""
        requeue = Requeue(
            job_id=job.id,
            attempt=job.attempt,
            epoch=self.epoch,
            now=self._clock.now(),
            outcome=outcome,
            reason=reason,
            counted=False,
        )
        waiting = await persistently(self._clock, lambda: self._store.requeue(requeue))
        waiting = waiting or await persistently(self._clock, lambda: self._store.get(job.id))
        if waiting is not None and waiting.state is JobState.QUEUED:
            await self.waits(waiting)
