"""Removes the checkpoints of jobs that have ended, behind their end.

Workers leave them: one that is an orphan would take what its successor needs. They go here when their job ends; what
was missed (a store that was away, a worker that came late, a scheduler that died) goes in a round over all of them at
the start and every hour. Checkpoints of jobs that this scheduler never ran an attempt of are left alone.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque

from libs.alarm import Alarm
from libs.blobs.store import CHECKPOINTS, BlobStore, checkpoint_folder
from libs.clock import Clock
from libs.errors import DarkroomError
from libs.ids import JobId
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.storage.store import JobStore, StoreUnavailable

logger = logging.getLogger(__name__)

ROUND_S = 3600.0
_REMEMBERED = 10_000  # ended jobs that wait for their turn; the round finds what falls out


class CheckpointSweeper:
    """Sweeps while `run` runs."""

    def __init__(self, store: JobStore, jobs: OpenJobs, blobs: BlobStore, clock: Clock) -> None:
        self._store = store
        self._jobs = jobs
        self._blobs = blobs
        self._clock = clock
        self._ended: deque[JobId] = deque(maxlen=_REMEMBERED)
        self._suspected = set[JobId]()
        self._alarm = Alarm(clock)

    def may_lie(self, job_id: JobId) -> None:
        """Say that a job has a checkpoint, or that nobody here has heard all that its attempts told."""
        if self._jobs.get(job_id) is not None:
            self._suspected.add(job_id)

    def job_ended(self, job: Job) -> None:
        """Remove what its attempts left, soon; most jobs have one attempt and no checkpoint, and those are not read."""
        if job.attempt > 1 or job.id in self._suspected:
            self._ended.append(job.id)
            self._alarm.ring()
        self._suspected.discard(job.id)

    async def run(self) -> None:
        """Sweep until cancelled."""
        next_round = 0.0
        while True:
            while self._ended:
                await self._guarded(self._ended.popleft())
            if self._clock.now() >= next_round:
                await self._guarded(None)
                next_round = self._clock.now() + ROUND_S
            await self._alarm.wait(next_round)

    async def _guarded(self, job_id: JobId | None) -> None:
        try:
            await (self._sweep_all() if job_id is None else self._sweep(job_id))
        except (DarkroomError, StoreUnavailable, ValueError) as error:  # the next round finds them
            logger.warning("checkpoints not removed", extra={"job_id": job_id, "cause": str(error)})

    async def _sweep(self, job_id: JobId) -> None:
        attempts = await self._store.attempts(job_id)
        # One that was lost may have stored a checkpoint that nobody heard of.
        if len(attempts) > 1 or any(attempt.checkpoint_ref for attempt in attempts):
            await self._remove(job_id, [key async for key in self._blobs.list_keys(checkpoint_folder(job_id))])

    async def _sweep_all(self) -> None:
        found: dict[JobId, list[str]] = defaultdict(list)
        async for key in self._blobs.list_keys(CHECKPOINTS):
            found[JobId(key.split("/")[1])].append(key)
        for job_id, keys in found.items():
            if await self._is_over(job_id):
                await self._remove(job_id, keys)

    async def _is_over(self, job_id: JobId) -> bool:
        """Return whether a job of this scheduler has ended, deleted ones included."""
        if self._jobs.get(job_id) is not None:
            return False
        job = await self._store.get(job_id)
        return not job.open if job is not None else bool(await self._store.attempts(job_id))

    async def _remove(self, job_id: JobId, keys: list[str]) -> None:
        for key in keys:
            await self._blobs.delete(key)
        if keys:
            logger.info("checkpoints removed", extra={"job_id": job_id, "count": len(keys)})
