"""`Prefer: wait=N`: hold an answer until the job is finished or the time is over, whichever is first."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing

from darkroom.v1 import job_pb2
from libs.clock import Clock
from libs.errors import DarkroomError
from libs.ids import JobId, TenantId
from services.gateway.callers.identity import Caller
from services.gateway.callers.withdrawals import Standing, Withdrawals
from services.gateway.peers import Scheduler
from services.gateway.reading.presentation import is_final
from services.gateway.reading.relay import EventRelay

logger = logging.getLogger(__name__)

MAX_WAIT_S = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?(?=$|[,;\s])", re.IGNORECASE | re.ASCII)


def preferred_wait_s(prefer: str) -> int:
    """Return the seconds that a Prefer header asks for, at most 60; 0 when it does not."""
    found = _WAIT.search(prefer)
    return min(MAX_WAIT_S, int(found[1])) if found else 0


class Waiting:
    """Waits for jobs."""

    def __init__(self, scheduler: Scheduler, relay: EventRelay, withdrawals: Withdrawals, clock: Clock) -> None:
        self._scheduler = scheduler
        self._withdrawals = withdrawals
        self._relay = relay
        self._clock = clock

    async def finished(self, caller: Caller, job: job_pb2.Job, wait_s: int) -> job_pb2.Job:
        """Return the job as it is when it ends or after `wait_s`. The job is accepted and charged already, so nothing that
        goes wrong with the waiting is an error. Whoever came with what stands no more is told what was accepted, once.
        """
        if wait_s <= 0 or is_final(job) or not job.id:
            return job
        with self._withdrawals.watched(caller) as standing:
            await self._wait(caller.tenant_id, JobId(job.id), wait_s, standing)
        if standing.over.done():
            return job
        try:
            return await self._scheduler.get_job(caller.tenant_id, JobId(job.id))
        except DarkroomError:
            return job

    async def _wait(self, tenant_id: TenantId, job_id: JobId, wait_s: int, standing: Standing) -> None:
        end = asyncio.ensure_future(self._end(tenant_id, job_id, standing))
        timer = asyncio.ensure_future(self._clock.sleep(wait_s))
        try:
            await asyncio.wait((end, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
            timer.cancel()
            await asyncio.wait((end, timer))

    async def _end(self, tenant_id: TenantId, job_id: JobId, standing: Standing) -> None:
        """Return when the job has ended, or at once when it cannot be followed or its caller's key was withdrawn."""
        try:
            async with aclosing(self._relay.events(tenant_id, job_id, 0, standing)) as events:
                async for _ in events:
                    pass
        except DarkroomError as error:
            logger.info("a job cannot be waited for", extra={"job_id": job_id, "reason": error.reason})
