"""What waits and runs, counted for operators: by model and by tenant. A long queue is counted in slices."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from libs.ids import TenantId
from services.scheduler.job import Job, JobState

SLICE = 5_000  # jobs counted before others have their turn
TOP = 10  # tenants told


@dataclass(slots=True)
class Count:
    """Jobs that wait and run; units of the waiting ones; since when the oldest waits, in Unix seconds."""

    queued: int = 0
    running: int = 0
    units: float = 0.0
    oldest: float | None = None

    def add(self, job: Job) -> None:
        """Count a job."""
        if job.state is JobState.RUNNING:
            self.running += 1
            return
        self.queued += 1
        self.units += job.estimated_units
        self.oldest = job.queued_at if self.oldest is None else min(self.oldest, job.queued_at)


@dataclass(frozen=True, slots=True)
class QueueView:
    """Models with most waiting jobs first; the TOP tenants whose waiting jobs cost most, those first."""

    models: Sequence[tuple[str, Count]]
    tenants: Sequence[tuple[TenantId, Count]]


async def count(jobs: Sequence[Job]) -> QueueView:
    """Return the view of `jobs`."""
    models: dict[str, Count] = {}
    tenants: dict[TenantId, Count] = {}
    for first in range(0, len(jobs), SLICE):
        for job in jobs[first : first + SLICE]:
            models.setdefault(job.model_version, Count()).add(job)
            tenants.setdefault(job.tenant_id, Count()).add(job)
        await asyncio.sleep(0)
    longest = sorted(models.items(), key=lambda item: (-item[1].queued, item[0]))
    top = heapq.nsmallest(TOP, tenants.items(), key=lambda item: (-item[1].units, -item[1].running, item[0]))
    return QueueView(longest, top)
