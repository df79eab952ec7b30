"""Where a job stands and how long it will wait, from memory only.

A job of the last outlook has its place there. One that came since is simulated by itself while the queue is short, and
estimated by the work before it while it is long: units over the speed of the rows that can run it.
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.clock import Clock
from libs.ids import JobId, TenantId
from services.scheduler.forecast.forecaster import Forecaster
from services.scheduler.forecast.simulation import Start
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.order.ordering import Standing, Waiting
from services.scheduler.placement.fleet import Fleet

_SHORT_QUEUE = 64  # up to so many waiting jobs, and workers, one is simulated by itself …
_AT_ONCE = 20  # … so often in a second: the loop has other work
_PROBE = JobId("job_probe")
_DRAINING = "every worker with its model is draining"
_UNKNOWN = "no worker that is alive can use its model"


@dataclass(frozen=True, slots=True)
class QueueEstimate:
    """Place from 1 (0: not waiting), waits in seconds, `as_of` in Unix seconds.

    `starts_after_load`: the worker that takes it has to load its model first. `reason` says why it is not feasible.
    """

    position: int
    wait_p50_s: float
    wait_p90_s: float
    feasible: bool
    as_of: float
    starts_after_load: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Guess:
    position: int
    wait_s: float
    as_of: float
    after_load: bool


class Estimator:
    """Answers from the outlook, calibrated."""

    def __init__(self, jobs: OpenJobs, fleet: Fleet, forecaster: Forecaster, clock: Clock) -> None:
        self._jobs = jobs
        self._fleet = fleet
        self._forecaster = forecaster
        self._clock = clock
        self._second, self._simulated = 0, 0

    def of_job(self, job: Job) -> QueueEstimate | None:
        """Return where a job stands; None when it does not wait. The first answer is a promise that is learned from."""
        if job.id not in self._jobs.ordering:
            return None
        start = self._forecaster.outlook.start(job.id)
        if start is not None:
            guess = self._guess(start, self._forecaster.outlook.as_of)
        else:
            guess = self._at_once(job.id) or self._by_standing(self._jobs.ordering.standing(job.id), job.model_version)
        return self._told(guess, job.tier, job.model_version, None if job.attempt else job.id)

    def of_new(self, tier: str, model_version: str, units: float = 0.0) -> QueueEstimate:
        """Return where a job would stand that came now, of a tenant without any other."""
        now = self._clock.now()
        probe = Waiting(_PROBE, TenantId("tenant_probe"), tier, model_version, now, units)
        standing = self._jobs.ordering.standing_of_new(tier, now)
        guess = self._at_once(_PROBE, probe) or self._by_standing(standing, model_version)
        return self._told(guess, tier, model_version, None)

    def _told(self, guess: _Guess, tier: str, model_version: str, promised_to: JobId | None) -> QueueEstimate:
        promise = self._forecaster.promises.promise(tier, guess.wait_s, self._clock.now())
        feasible = self._fleet.can.feasible(model_version)
        if promised_to is not None and feasible:
            self._forecaster.promises.follow(promised_to, tier, promise, self._clock.now())
        known = self._fleet.can.rows(model_version) > 0
        return QueueEstimate(
            position=guess.position,
            wait_p50_s=round(promise.p50_s, 2),
            wait_p90_s=round(promise.p90_s, 2),
            feasible=feasible,
            as_of=guess.as_of,
            starts_after_load=guess.after_load,
            reason="" if feasible else _DRAINING if known else _UNKNOWN,
        )

    def _guess(self, start: Start, as_of: float) -> _Guess:
        return _Guess(start.place, max(0.0, start.at - self._clock.now()), as_of, start.after_load)

    def _at_once(self, job_id: JobId, probe: Waiting | None = None) -> _Guess | None:
        """Play the queue up to one job; None when it is too long, when that was done often, or when it never starts."""
        if max(len(self._jobs.ordering), len(self._fleet.workers())) > _SHORT_QUEUE or not self._may_simulate():
            return None
        simulated = self._forecaster.simulation(probe)
        while job_id not in simulated.starts and not simulated.run(1):
            pass
        start = simulated.starts.get(job_id)
        return self._guess(start, self._clock.now()) if start else None

    def _may_simulate(self) -> bool:
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._simulated = second, 0
        self._simulated += 1
        return self._simulated <= _AT_ONCE

    def _by_standing(self, standing: Standing | None, model_version: str) -> _Guess:
        now, outlook = self._clock.now(), self._forecaster.outlook
        position, units = (standing.position, standing.units_ahead) if standing else (1, 0.0)
        seconds = self._forecaster.speeds.seconds_per_unit("", model_version)
        wait_s = units * seconds
        if not self._fleet.free_for(model_version):
            wait_s += outlook.busy_s
        wait_s /= max(1, self._fleet.can.rows(model_version))
        if outlook.horizon is not None and position > len(outlook.starts):
            wait_s = max(wait_s, outlook.horizon - now)
        return _Guess(position, wait_s, now, after_load=False)
