"""Brings joiners to the end of the run they wait for, or sets them free; told by open_jobs that a run is over."""

from __future__ import annotations

import logging

from libs.clock import Clock
from libs.ids import JobId
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)


class Follower:
    """Follows while `run` runs. What it has not done when it dies stands in the store: the joiners are open jobs."""

    def __init__(self, store: JobStore, jobs: OpenJobs, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._lead = lead

    async def run(self) -> None:
        """Follow until cancelled. Raises Deposed."""
        while True:
            while (run := self._jobs.joined.next_over()) is not None:
                for joiner in self._jobs.joined.joiners(run):
                    await self._follow(joiner)
            await self._jobs.run_over.wait()

    async def _follow(self, joiner: JobId) -> None:
        now = self._clock.now()
        after = await persistently(self._clock, lambda: self._store.follow(joiner, self._lead.epoch, now))
        # Without an answer its run goes on, it has left, or our own commit's answer was lost: the store knows.
        known = after or await persistently(self._clock, lambda: self._store.get(joiner))
        if known is None:
            self._jobs.gone(joiner)
        elif known.open:
            if after is not None or known.drawn_by != self._jobs.joined.waits_for(joiner):
                self._jobs.queued(known)
        elif self._jobs.get(joiner) is not None:
            logger.info("joiner ended", extra={"job_id": joiner, "state": known.state.value, "run": known.drawn_by})
            self._jobs.ended(known)
