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
from services.gateway.peers import Scheduler
from services.gateway.presentation import is_final
from services.gateway.relay import EventRelay

logger = logging.getLogger(__name__)

MAX_WAIT_S = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?(?=$|[,;\s])", re.IGNORECASE | re.ASCII)


def preferred_wait_s(prefer: str) -> int:
    """Return the seconds that a Prefer header asks for, at most 60; 0 when it does not."""
    found = _WAIT.search(prefer)
    return min(MAX_WAIT_S, int(found[1])) if found else 0


class Waiting:
    """Waits for jobs."""

    def __init__(self, scheduler: Scheduler, relay: EventRelay, clock: Clock) -> None:
        self._scheduler = scheduler
        self._relay = relay
        self._clock = clock

    async def finished(self, tenant_id: TenantId, job: job_pb2.Job, wait_s: int) -> job_pb2.Job:
        """Return the job as it is when it ends or after `wait_s`; never an error: the job is accepted already."""
        if wait_s <= 0 or is_final(job) or not job.id:
            return job
        job_id = JobId(job.id)
        end = asyncio.ensure_future(self._end(tenant_id, job_id))
        timer = asyncio.ensure_future(self._clock.sleep(wait_s))
        try:
            await asyncio.wait((end, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
            timer.cancel()
            await asyncio.wait((end, timer))
        try:
            return await self._scheduler.get_job(tenant_id, job_id)
        except DarkroomError:
            return job

    async def _end(self, tenant_id: TenantId, job_id: JobId) -> None:
        """Return when the job has ended, or at once when it cannot be followed."""
        try:
            async with aclosing(self._relay.events(tenant_id, job_id, 0)) as events:
                async for _ in events:
                    pass
        except DarkroomError as error:
            logger.info("a job cannot be waited for", extra={"job_id": job_id, "reason": error.reason})
