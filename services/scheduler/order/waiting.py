"""A waiting job as the order sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from libs.ids import JobId, TenantId

# What it costs to place a job of a line now, in units of loading: 0.0 where its model is resident, None: nobody takes it.
Offer = Callable[[str], float | None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the order needs to know of a queued job. Times in Unix seconds, units as in libs.generation.cost."""

    job_id: JobId
    tenant_id: TenantId
    tier: str
    model_version: str
    queued_at: float
    units: float
    priority: int = 0
    not_before: float = 0.0
    weight: float = 1.0  # its tenant's share beside others of the tier
    images: int = 1
    running_images: int | None = None  # of its tenant, as many may be on devices before it waits
    shape: str = ""  # names the line of those that need the same of a worker; empty: its model version does

    @property
    def line(self) -> str:
        """The line in which it waits."""
        return self.shape or self.model_version


Entry = tuple[float, int, Waiting]  # when it was queued, a running number, the job: sorts by arrival
Rank = tuple[int, float, int]  # −priority, then arrival: sorts the jobs of one tenant


def rank(entry: Entry) -> Rank:
    """Return where a job comes among those of its tenant."""
    return -entry[2].priority, entry[0], entry[1]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands: place from 1, and about how many units are served before it."""

    position: int
    units_ahead: float
