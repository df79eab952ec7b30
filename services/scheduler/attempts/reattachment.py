"""Takes up the attempts that ran when the last leader went: it died, was stopped, or was deposed.

Their workers did not notice and go on. Each is followed again under the same number and this leader's epoch, so no
step of a device is done twice. Only an attempt whose worker is gone, or does not know it, is closed as lost; that is
no fault of its job and does not count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from libs.alarm import first
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from services.scheduler.attempts import spans
from services.scheduler.attempts.outcome import Attempt
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.attempts.runner import AttemptRunner
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.placement.fleet import Fleet
from services.scheduler.retries.retry import RESTARTED, times_out_of_memory
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0  # for its worker to be in the fleet: etcd may come up just as we do, and its lease with it


class Reattachment:
    """Follows the attempts of an earlier leader, each in a task of its own."""

    def __init__(
        self,
        store: JobStore,
        jobs: OpenJobs,
        fleet: Fleet,
        runner: AttemptRunner,
        reconciler: Reconciler,
        clock: Clock,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._fleet = fleet
        self._runner = runner
        self._reconciler = reconciler
        self._clock = clock

    def expect(self, orphans: Sequence[Job]) -> None:
        """Keep their places on their workers; to be called before anything is dispatched."""
        for job in orphans:
            self._fleet.expect(job.worker, job.id, job.shape)

    async def run(self, orphans: Sequence[Job]) -> None:
        """Follow them all to their ends. Raises Deposed."""
        async with asyncio.TaskGroup() as attempts:
            for job in orphans:
                attempts.create_task(self._take_up(job))

    async def _take_up(self, job: Job) -> None:
        worker = await self._worker(job)
        fields = {"job_id": job.id, "worker_id": job.worker, "attempt": job.attempt}
        if worker is None:
            logger.info("the worker of an attempt did not come back", extra=fields)
            self._fleet.expect_no_more(job.worker, job.id)
            await self._reconciler.give_back(job, "lost", RESTARTED)
            return
        logger.info("attempt taken up again", extra=fields)
        run, _ = job.run
        self._fleet.give(worker, run, job.shape)
        self._fleet.expect_no_more(job.worker, job.id)
        try:
            await self._runner.run(await self._attempt(job, worker))
        finally:
            self._fleet.take_back(worker, run)

    async def _worker(self, job: Job) -> WorkerRecord | None:
        """Return the worker that ran it, by name: a later incarnation answers that it does not know the attempt."""
        await first(self._fleet.appeared(job.worker), self._clock.sleep(PATIENCE_S))
        return self._fleet.workers().get(job.worker)

    async def _attempt(self, job: Job, worker: WorkerRecord) -> Attempt:
        *earlier, this = await persistently(self._clock, lambda: self._store.attempts(job.id))
        run, number = job.run
        return Attempt(
            job=job.evolve(id=run, attempt=number),  # the closer knows whose it is
            worker=worker,
            server=self._fleet.server(worker),
            epoch=self._reconciler.epoch,
            stop=self._jobs.stop_signal(job.id),
            span=spans.take_up_attempt(this),
            began_at=max(this.started_at, job.started_at or 0.0),
            out_of_memory_before=times_out_of_memory(earlier[job.fresh_after :]),
            attach=True,
        )
