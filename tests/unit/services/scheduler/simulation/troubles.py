"""What goes wrong from outside: processes crash or stand still, somebody is cut off or away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from libs.testing.simulated_loop import SimulatedLoop
from tests.unit.services.scheduler.simulation.drawings import PINNED
from tests.unit.services.scheduler.simulation.lives import Life
from tests.unit.services.scheduler.simulation.workers import FAILURES, SimulatedWorker

if TYPE_CHECKING:
    from tests.unit.services.scheduler.simulation.world import World


class Troubles:
    """Makes those that the seed drew, one after the other and over each other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chances, self._clock = world.chances, world.clock

    async def make(self, seconds: float) -> None:
        """Make trouble for some time, and return when all is well again."""
        ends_at = self._clock.now() + seconds
        running: list[asyncio.Task[None]] = []
        while self._clock.now() < ends_at:
            await self._clock.sleep(self._chances.between(0.5, 15.0))
            trouble = self._chances.random.choice(self._chances.troubles)
            running.append(asyncio.create_task(self._make(trouble, self._chances.between(0.1, 20.0))))
        await asyncio.gather(*running)

    async def _make(self, trouble: str, seconds: float) -> None:
        world = self._world
        worker, life = self._chances.random.choice(list(world.workers.values())), world.life
        if self._chances.random.random() < 0.3:
            life = self._chances.random.choice(world.living or [life])
        world.say(f"{trouble} for {seconds:.1f} s ({worker.name} or {life.name})")
        match trouble:
            case "worker crashes":
                await self._crash_worker(worker, seconds)
            case "worker stands still":
                await self._pause(worker.name, seconds)
            case "worker is sick":
                await self._sicken(worker, seconds)
            case "model is gone":
                await self._take_away(3 * seconds)
            case "scheduler crashes":
                life.crash()
            case "scheduler stands still":
                await self._overtake(life, seconds)
            case _:
                await self._switch(trouble, worker, life, seconds)

    async def _switch(self, trouble: str, worker: SimulatedWorker, life: Life, seconds: float) -> None:
        """Let something be otherwise for some seconds."""
        whose: dict[str, tuple[object, str, bool]] = {
            "worker is cut off": (worker, "cut_off", True),
            "fleet is not told": (self._world, "fleet_is_told", False),
            "limiter is away": (self._world, "limiter_away", True),
            "candidate is cut off": (life.line, "cut", True),
            "etcd is away": (self._world.etcd, "away", True),
        }
        of, what, value = whose[trouble]
        if of is not None:
            setattr(of, what, value)
            await self._clock.sleep(seconds)
            setattr(of, what, not value)

    async def _crash_worker(self, worker: SimulatedWorker, seconds: float) -> None:
        if worker.up:
            worker.crash()
            await self._clock.sleep(seconds)
            worker.come_back()

    async def _sicken(self, worker: SimulatedWorker, seconds: float) -> None:
        worker.sick = self._chances.random.choice(FAILURES)
        await self._clock.sleep(seconds)
        worker.sick = None

    async def _take_away(self, seconds: float) -> None:
        """Let no worker be able to draw with a model for a while."""
        gone = self._chances.random.choice(PINNED)
        workers = [worker for worker in self._world.workers.values() if gone in worker.able]
        for worker in workers:
            worker.missing.add(gone)
        await self._clock.sleep(seconds)
        for worker in workers:
            worker.missing.discard(gone)

    async def _overtake(self, life: Life, seconds: float) -> None:
        """Let a scheduler stand still; one that is not elected may be deposed meanwhile by another that is started."""
        _loop().pause(life.name)
        await self._clock.sleep(seconds / 2)
        if seconds > 6.0 and life.line is None and self._world.life is life:
            self._world.start_scheduler()
        await self._clock.sleep(seconds / 2)
        _loop().go_on(life.name)
        self._world.say(f"{life.name} goes on")

    async def _pause(self, name: str, seconds: float) -> None:
        _loop().pause(name)
        await self._clock.sleep(seconds)
        _loop().go_on(name)


def _loop() -> SimulatedLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return loop
