"""Tells workers to stop the attempts of a scheduler that died: they were given up, and hold rows that are needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from libs import errors
from libs.clock import Clock
from services.scheduler.alarm import first
from services.scheduler.fleet import Fleet
from services.scheduler.job import Job

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0  # a worker that has not come back by then has no orphans either


async def stop_orphans(fleet: Fleet, orphans: Sequence[Job], clock: Clock) -> None:
    """Cancel each job's attempt on the worker that ran it, once that worker is in the fleet. Best effort."""
    async with asyncio.TaskGroup() as tasks:
        for job in orphans:
            tasks.create_task(first(_stop(fleet, job), clock.sleep(PATIENCE_S)))


async def _stop(fleet: Fleet, job: Job) -> None:
    record = await fleet.appeared(job.worker)
    fields = {"job_id": job.id, "worker_id": job.worker, "attempt": job.attempt}
    try:
        found = await fleet.server(record).cancel(job.id, job.attempt)
        logger.info("told a worker to stop an orphan", extra=fields | {"found": found})
    except errors.DarkroomError as error:
        logger.info("a worker could not be told to stop an orphan", extra=fields | {"cause": error.reason})
