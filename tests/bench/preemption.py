"""What making room for a higher tier costs: drawn steps a second with and without it, on a virtual clock.

    python -m tests.bench.preemption

WORKERS of ROWS rows never run out of free jobs; enterprise jobs come at random for a share of the whole. Order, the
choice of who makes room and of who goes on are the scheduler's own. What a park and going on cost is measured first, on
the real engine (park_cost): so many steps of every row of the worker. It is counted once as it is, and once as if every
parked job's model had been let go meanwhile. Without preemption an enterprise job has the next row that is free.
"""

from __future__ import annotations

import platform
import random
import statistics
import sys
from dataclasses import dataclass, field

from libs.fleet.record import WorkerRecord
from libs.ids import JobId, TenantId, WorkerId
from services.scheduler.order.ordering import Ordering, Waiting
from services.scheduler.placement import preemption
from services.scheduler.placement.placement import Seat
from services.scheduler.placement.preemption import Parked, Running
from tests.bench import park_cost

WORKERS, ROWS, STEPS = 4, 2, 30
STEP_S = 0.25
RUN_S = 2 * 3600.0
SHARES = (0.05, 0.2, 0.5)
MODEL = "m@1"


@dataclass(slots=True)
class Job:
    """One drawing; `left` in steps, more after each park."""

    waiting: Waiting
    left: float = STEPS
    since: float = 0.0
    parks: int = 0


@dataclass(slots=True)
class Town:
    """Some workers, and their jobs."""

    share: float
    preempting: bool
    cost_steps: float = 0.0  # of parking and going on
    drawn: float = 0.0
    parks: int = 0
    waits: list[float] = field(default_factory=list)
    _now: float = 0.0
    _number: int = 0
    _order: Ordering = field(default_factory=Ordering)
    _jobs: dict[JobId, Job] = field(default_factory=dict)
    _rows: list[list[Job]] = field(default_factory=lambda: [[] for _ in range(WORKERS)])
    _parked: list[list[tuple[Job, float]]] = field(default_factory=lambda: [[] for _ in range(WORKERS)])
    _chance: random.Random = field(default_factory=lambda: random.Random(7))

    def run(self) -> Town:
        """Step through the run; every row ends its steps together."""
        rate = self.share * WORKERS * ROWS / STEPS  # enterprise jobs a step
        while self._now < RUN_S:
            arrivals = sum(self._chance.random() < rate / 10 for _ in range(10))
            for _ in range(arrivals):
                self._enter("enterprise")
            while self._order.depth("free") < 10:
                self._enter("free")
            if self.preempting:
                self._make_room()
            self._fill()
            self._draw()
        return self

    def _enter(self, tier: str) -> None:
        self._number += 1
        waiting = Waiting(JobId(f"{self._number:09}"), TenantId(tier), tier, MODEL, self._now, STEPS * STEP_S * 1000.0)
        self._order.add(waiting, self._now)
        self._jobs[waiting.job_id] = Job(waiting)

    def _draw(self) -> None:
        self._now += STEP_S
        for worker, rows in enumerate(self._rows):
            for job in rows:
                job.left -= 1
                self.drawn += 1
            for job in [job for job in rows if job.left <= 0]:
                self._order.settled(job.waiting.job_id, job.waiting.units)
            self._rows[worker] = [job for job in rows if job.left > 0]

    def _fill(self) -> None:
        for worker, rows in enumerate(self._rows):
            while len(rows) < ROWS:
                rival = self._order.next(lambda _: 0.0, self._now)
                again = self._again(worker, rival)
                if again is not None:
                    rows.append(again)
                elif rival is not None:
                    self._begin(worker, rival)

    def _again(self, worker: int, rival: Waiting | None) -> Job | None:
        held = {job.waiting.job_id: (job, since) for job, since in self._parked[worker]}
        parked = [Parked(i, job.waiting.tier, _record(worker), since) for i, (job, since) in held.items()]
        chosen = preemption.goes_on(parked, self._seat(worker), rival.tier if rival else None, self._now)
        if chosen is None:
            return None
        job, _ = held[chosen.job_id]
        self._parked[worker] = [each for each in self._parked[worker] if each[0] is not job]
        job.left, job.since = job.left + self.cost_steps, self._now
        self.drawn -= ROWS * self.cost_steps  # the other rows stand still as well
        return job

    def _begin(self, worker: int, waiting: Waiting) -> None:
        job = self._jobs.pop(waiting.job_id)
        self._order.started(waiting.job_id, self._now)
        job.since = self._now
        self._rows[worker].append(job)
        if waiting.tier == "enterprise":
            self.waits.append(self._now - waiting.queued_at)

    def _make_room(self) -> None:
        waiting = self._order.next(lambda _: 0.0, self._now)
        for _ in range(self._order.depth(waiting.tier) if waiting else 0):
            running = {
                job.waiting.job_id: (worker, job)
                for worker, rows in enumerate(self._rows)
                for job in rows
                if preemption.may_park(job.parks, self._seat(worker))
            }
            able = [Running(i, job.waiting.tier, self._seat(w), job.since) for i, (w, job) in running.items()]
            victim = preemption.victim(waiting, able) if waiting else None
            if victim is None:
                return
            worker, job = running[victim.job_id]
            self._rows[worker].remove(job)
            self._parked[worker].append((job, self._now))
            job.parks, self.parks = job.parks + 1, self.parks + 1

    def _seat(self, worker: int) -> Seat:
        return Seat(_record(worker), assigned=len(self._rows[worker]), parked=len(self._parked[worker]))


def _record(worker: int) -> WorkerRecord:
    return WorkerRecord(WorkerId(f"w{worker}"), "a", "w:1", "cpu", 0, (MODEL,), (MODEL,), ROWS, 0, 0.0)


def main() -> None:
    """Measure the cost and print the tables."""
    print(f"{platform.machine()}, Python {sys.version.split()[0]}\n")
    cost = park_cost.measure()
    park_cost.report(cost)
    head = "| share of enterprise | parks | steps/s without | with | lost | models let go, lost "
    print(head + "| wait p50 / p99 in steps without | with |")
    print("|---|---|---|---|---|---|---|---|")
    for share in SHARES:
        off, on = Town(share, preempting=False).run(), Town(share, preempting=True, cost_steps=cost.steps).run()
        far = Town(share, preempting=True, cost_steps=cost.evicted_steps).run()
        cells = f"{share:.0%} | {on.parks} | {off.drawn / RUN_S:.2f} | {on.drawn / RUN_S:.2f}"
        print(f"| {cells} | {_lost(on, off):.1%} | {_lost(far, off):.1%} | {_waits(off)} | {_waits(on)} |")


def _lost(with_it: Town, without: Town) -> float:
    return 1.0 - with_it.drawn / without.drawn


def _waits(town: Town) -> str:
    quantiles = statistics.quantiles(town.waits, n=100)
    return f"{quantiles[49] / STEP_S:.1f} / {quantiles[98] / STEP_S:.1f}"


if __name__ == "__main__":
    main()
