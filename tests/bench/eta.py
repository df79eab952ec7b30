"""Waits that were told against waits that came: the real scheduler on a virtual clock, with a mixed trace.

    python -m tests.bench.eta [seed …]

Three tiers of eight tenants send jobs of three models, at a load that goes up and down, to four workers with room for
two models each. Jobs take longer or shorter than their estimate says, workers differ in speed. What `Submit` would
answer is kept for each job and compared with when its first attempt began. Jobs that were told to start at once, and
did, are counted apart: they are no feat.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from libs.clients.modelserver import AttemptDone, AttemptEvent, Order, Progress
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.generation.attempt import ImageStored, StageDone
from libs.ids import JobId, TenantId
from services.scheduler.job import Job
from tests.unit.services.scheduler.fakes import Bench, FakeModelServer, job, record

MODELS = ("shapes@v1", "portraits@v1", "posters@v1")
TIERS = ("enterprise", "pro", "free")
SPEEDS = (1.0, 1.0, 1.4, 0.8)  # seconds for what the reference device does in one
LOAD_S = 6.0
ROOM = 2
_AT_ONCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a job was told and what came, in seconds."""

    tier: str
    p50_s: float
    p90_s: float
    waited_s: float

    @property
    def waits(self) -> bool:
        """Whether there was anything to tell."""
        return self.p50_s > 0.0 or self.waited_s > _AT_ONCE_S

    @property
    def held(self) -> bool:
        """Whether it started by the 90th percentile."""
        return self.waited_s <= self.p90_s + 0.05


class TimedServer(FakeModelServer):
    """A worker with memory for ROOM models that takes its time, by the virtual clock."""

    def __init__(self, bench: Bench, known: WorkerRecord, speed: float, dice: random.Random) -> None:
        super().__init__()
        self.record = known
        self._bench, self._clock, self._speed, self._dice = bench, bench.clock, speed, dice
        self._resident: list[str] = []

    async def execute(self, order: Order) -> AsyncGenerator[AttemptEvent, None]:
        began = self._clock.now()
        if await self._load(order.model_version):
            yield StageDone("load", began, self._clock.now())
        began, units = self._clock.now(), float(order.spec.prompt)
        takes_s = units / 1000.0 * self._speed * self._dice.lognormvariate(0.0, 0.3)
        await self._clock.sleep(takes_s / 2)
        yield Progress(order.attempt, 1, 2, takes_s / 2)
        await self._clock.sleep(takes_s / 2)
        yield StageDone("denoise", began, self._clock.now())
        yield ImageStored(0, f"{0:064x}", "image/png", 128, 128, 0, 9)
        yield AttemptDone(takes_s * 1000.0)

    async def _load(self, model: str) -> bool:
        if model in self._resident:
            self._resident.remove(model)
            self._resident.append(model)
            return False
        await self._clock.sleep(LOAD_S)
        self._resident = [*self._resident[-ROOM + 1 :], model]
        away = [(other, "ram") for other in MODELS if other not in self._resident]
        self.record = record(
            self.record.worker_id, models=MODELS, resident=tuple(self._resident), residency=tuple(away)
        )
        await self._bench.directory.set(*(server.record for server in self._bench.servers.values()))
        return True


async def run(seed: int, jobs: int = 600) -> list[Told]:
    """Play a trace and return what its jobs were told."""
    dice, bench = random.Random(seed), Bench()
    for index, speed in enumerate(SPEEDS):
        known = record(f"modelserver-{index}", models=MODELS)
        bench.servers[known.address] = TimedServer(bench, known, speed, random.Random(seed * 100 + index))
    async with bench.running() as scheduler:
        await bench.workers(*(server.record for server in bench.servers.values()))
        told = {}
        for number in range(jobs):
            await bench.clock.advance(dice.expovariate(_rate(number)))
            accepted = await scheduler.desk.submit(_job(bench.clock, dice))
            estimate = scheduler.estimator.of_job(accepted.job)
            told[accepted.job.id] = (accepted.job, estimate.wait_p50_s, estimate.wait_p90_s)
        while len(scheduler.jobs.ordering):
            await bench.clock.advance(10.0)
        return [await _came(bench, *each) for each in told.values()]


def _rate(number: int) -> float:
    """Jobs a second: about 0.6 to 1.2 times what the fleet can draw."""
    return 0.9 * (1.0 + 0.33 * math.sin(number / 45.0))


def _job(clock: Clock, dice: random.Random) -> Job:
    units = min(20_000.0, max(500.0, dice.lognormvariate(8.0, 0.7)))
    tier = dice.choices(TIERS, (1, 4, 5))[0]
    made = job(
        clock.now(),
        tier=tier,
        tenant_id=TenantId(f"{tier}-{dice.randrange(8)}"),
        model_version=dice.choices(MODELS, (6, 3, 1))[0],
        estimated_units=units,
    )
    return made.evolve(spec=replace(made.spec, prompt=str(units)))


async def _came(bench: Bench, asked: Job, p50_s: float, p90_s: float) -> Told:
    found = await bench.store.get(JobId(asked.id))
    return Told(asked.tier, p50_s, p90_s, found.started_at - asked.created_at)


def coverage(told: list[Told]) -> float:
    """Return the share of those that had to wait and started by their 90th percentile."""
    waited = [each for each in told if each.waits]
    return sum(each.held for each in waited) / len(waited)


def main() -> None:
    """Print a line for each seed and tier."""
    for seed in [int(word) for word in sys.argv[1:]] or range(1, 6):
        told = asyncio.run(run(seed))
        for tier in (*TIERS, ""):
            of_tier = [each for each in told if each.waits and tier in ("", each.tier)]
            below = sum(each.waited_s <= each.p50_s + 0.05 for each in of_tier) / len(of_tier)
            waited = statistics.median(each.waited_s for each in of_tier)
            wide = statistics.median(each.p90_s - each.p50_s for each in of_tier)
            print(
                f"seed {seed}  {tier or 'all':10}  waited {len(of_tier):4} of {len(told)}  median {waited:6.1f} s"
                f"  p50 held {below:4.0%}  p90 held {coverage(of_tier):4.0%}  p90 above p50 by {wide:5.1f} s"
            )


if __name__ == "__main__":
    main()
