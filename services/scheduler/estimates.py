"""How long a waiting job will wait: the units before it over the rows that can run it.

Deliberately plain: units are milliseconds of the reference device, every row is taken as that device. The forward
simulation of the real order, calibrated by observed ratios, takes its place here (design/3-scheduler 9).
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.clock import Clock
from services.scheduler.fleet import Fleet
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.ordering import Standing
from services.scheduler.watch_hub import WatchHub

P90_FACTOR = 2.0  # nine of ten waits are assumed to stay below twice the median, until that is measured


@dataclass(frozen=True, slots=True)
class QueueEstimate:
    """Place from 1 (0: not waiting), waits in seconds, `as_of` in Unix seconds."""

    position: int
    wait_p50_s: float
    wait_p90_s: float
    feasible: bool
    as_of: float


class Estimator:
    """Answers from memory only."""

    def __init__(self, jobs: OpenJobs, fleet: Fleet, hub: WatchHub, clock: Clock) -> None:
        self._jobs = jobs
        self._fleet = fleet
        self._hub = hub
        self._clock = clock

    def of_job(self, job: Job) -> QueueEstimate | None:
        """Return where a job stands; None when it does not wait."""
        standing = self._jobs.ordering.standing(job.id)
        return None if standing is None else self._estimate(standing, job.model_version)

    def of_new(self, tier: str, model_version: str) -> QueueEstimate:
        """Return where a job would stand that came now."""
        return self._estimate(self._jobs.ordering.standing_of_new(tier, self._clock.now()), model_version)

    def _estimate(self, standing: Standing, model_version: str) -> QueueEstimate:
        rows = self._fleet.able(model_version)
        units = standing.units_ahead
        if not self._fleet.free_for(model_version):
            units += sum(self._left(job) for job in self._jobs.running())
        wait_s = units / 1000.0 / max(1, rows)
        return QueueEstimate(
            position=standing.position,
            wait_p50_s=round(wait_s, 2),
            wait_p90_s=round(wait_s * P90_FACTOR, 2),
            feasible=self._fleet.feasible(model_version),
            as_of=self._clock.now(),
        )

    def _left(self, job: Job) -> float:
        progress = self._hub.progress(job.id)
        done = progress.step / progress.total if progress and progress.total else 0.0
        return job.estimated_units * (1.0 - min(1.0, done))
