"""Keeps an outlook on the queue: when each waiting job will start, and how much work waits.

Whoever changes a job tells open_jobs, and that tells this. Once a second, or after 200 dispatches, the queue is
simulated on a fork of the order, in slices of a millisecond or two; it uses at most a tenth of a core. What lies beyond
its cap, and all of a queue too long to fork, is estimated by the work before it (estimator).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from libs.alarm import Alarm
from libs.clock import Clock
from libs.ids import JobId
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.forecast import demand, snapshot
from services.scheduler.forecast.outlook import Outlook
from services.scheduler.forecast.promises import Promises
from services.scheduler.forecast.simulation import Simulation
from services.scheduler.forecast.speeds import Speeds
from services.scheduler.job import Job, JobState
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.order.ordering import Waiting
from services.scheduler.placement.fleet import Fleet

logger = logging.getLogger(__name__)

EVERY_S = 1.0
AFTER_DISPATCHES = 200
MOST_DISPATCHES = 5000  # of one simulation; beyond them the fluid estimate goes on
LONGEST_QUEUE = 50_000  # waiting jobs that are forked: it is done in one turn of the event loop
_TURN, _TURN_S = 25, 0.002  # dispatches and seconds in one turn, whichever is over first
_MOST_S = 0.25  # of computing for one simulation
_IDLE_SHARE = 9.0  # times as long as a simulation computed, the next one waits
_A_FEW = 5  # dispatches between two looks at the time


def _nobody() -> None:
    return None


class Forecaster:
    """Is told what happens to open jobs; `run` keeps the outlook fresh."""

    def __init__(
        self,
        jobs: OpenJobs,
        fleet: Fleet,
        hub: WatchHub,
        clock: Clock,
        seconds_per_unit: Callable[[str], float],
    ) -> None:
        jobs.followers.append(self)
        self._jobs = jobs
        self._fleet = fleet
        self._hub = hub
        self._clock = clock
        self._news, self._many = Alarm(clock), Alarm(clock)
        self._runs: dict[JobId, snapshot.Run] = {}
        self._dispatches = 0
        self.outlook = Outlook()
        self._seconds_per_unit = seconds_per_unit  # of a device, by model version
        self.speeds = Speeds()
        self.promises = Promises()
        self.on_demand: Callable[[], None] = _nobody  # rings whoever scales the fleet

    def queued(self, job: Job) -> None:
        """A job waits (again)."""
        self._runs.pop(job.id, None)
        self._changed()

    def started(self, job: Job, began_at: float) -> None:
        """An attempt runs on `job.worker` since `began_at`."""
        self._runs[job.id] = snapshot.Run(
            job.id, job.worker, job.model_version, job.estimated_units, began_at, job.shape
        )
        self.promises.started(job.id, began_at)
        self.outlook.left(job.id)
        self._dispatches += 1
        if self._dispatches >= AFTER_DISPATCHES:
            self._many.ring()
        self._changed()

    def ended(self, job: Job) -> None:
        """A job is in its final state; told before `gone`."""
        run = self._runs.get(job.id)
        if run is not None and job.state is JobState.SUCCEEDED and job.attempt == 1:
            self.speeds.learn(run.model, run.worker, run.units, job.stages)

    def gone(self, job_id: JobId) -> None:
        """A job is not open any more."""
        self._runs.pop(job_id, None)
        self.promises.gone(job_id)
        self.outlook.left(job_id)
        self._changed()

    def demand(self) -> demand.Demand:
        """Return how much work waits and who works."""
        runs = [(run.model, run.worker) for run in tuple(self._runs.values())]
        backlog = self._jobs.backlog
        waits = {model: (backlog.jobs(model), backlog.units(model)) for model in backlog.models()}
        return demand.measure(waits, runs, self._seconds_per_unit)

    def simulation(self, newcomer: Waiting | None = None) -> Simulation:
        """Return a simulation of what waits, and of a newcomer, from now on; nobody has played it yet."""
        now = self._clock.now()
        state = snapshot.take(
            self._fleet.seats(), self._runs.values(), self._hub.progress, self.speeds, self._fleet.load_s, now
        )
        line = self._jobs.ordering.fork()
        if newcomer is not None:
            line.add(newcomer, now)
        simulated = Simulation(line, state.workers, state.costs, now)
        simulated.busy(state.rests)
        return simulated

    def _busy_s(self) -> float:
        """Return what is left of all running jobs together."""
        alive, now = self._fleet.workers(), self._clock.now()
        runs = [run for run in self._runs.values() if run.worker in alive]
        return sum(snapshot.left_s(run, self._hub.progress(run.job_id), self.speeds, now) for run in runs)

    async def run(self) -> None:
        """Keep the outlook fresh until cancelled. It rests while nothing waits, and while nothing happens."""
        while True:
            await self._news.wait(self._clock.now() + EVERY_S if self._moves() else None)
            spent_s = 0.0
            try:
                spent_s = await self._look()
            except Exception:  # owns the loop: without an outlook jobs run all the same
                logger.exception("the queue could not be simulated")
            self._dispatches = 0
            await self._many.wait(self._clock.now() + max(EVERY_S, _IDLE_SHARE * spent_s))

    async def _look(self) -> float:
        """Make a new outlook; returns the seconds that computing it took."""
        began = self._clock.monotonic()
        if len(self._jobs.ordering) > LONGEST_QUEUE:
            self.outlook = Outlook(self._clock.now())
            return 0.0
        if not len(self._jobs.ordering):  # nothing to play, and a large fleet takes long to look at
            self.outlook = Outlook(self._clock.now(), busy_s=self._busy_s())
            return 0.0
        simulated = self.simulation()
        as_of, busy_s = simulated.now, simulated.busy_s
        spent_s = self._clock.monotonic() - began
        while spent_s < _MOST_S and len(simulated.starts) < MOST_DISPATCHES and not simulated.over:
            spent_s += self._turn(simulated)
            await asyncio.sleep(0)
        outlook = Outlook(as_of, simulated.starts, None if simulated.over else simulated.now, busy_s)
        for job_id in [job_id for job_id in simulated.starts if job_id not in self._jobs.ordering]:
            outlook.left(job_id)  # while it was simulated
        self.outlook = outlook
        return spent_s

    def _turn(self, simulated: Simulation) -> float:
        """Play on for one turn of the event loop; returns its seconds."""
        began, spent_s = self._clock.monotonic(), 0.0
        for _ in range(_TURN // _A_FEW):
            over = simulated.run(_A_FEW)
            spent_s = self._clock.monotonic() - began
            if over or spent_s >= _TURN_S:
                break
        return spent_s

    def _moves(self) -> bool:
        return bool(self._runs) and len(self._jobs.ordering) > 0

    def _changed(self) -> None:
        self._news.ring()
        self.on_demand()
