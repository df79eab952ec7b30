"""One run: owners ask, workers draw, schedulers come and go, and for a while everything goes wrong that a seed drew."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from libs.blobs.memory import MemoryBlobs
from libs.errors import DarkroomError, Unavailable
from libs.ids import JobId
from libs.testing.simulated_loop import SimulatedClock, SimulatedLoop
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import Deposed, StoreUnavailable
from tests.unit.services.scheduler import fakes
from tests.unit.services.scheduler.simulation.chances import Chances
from tests.unit.services.scheduler.simulation.lives import Life
from tests.unit.services.scheduler.simulation.workers import LEASE_S, Connection, Ran, SimulatedWorker

WORKERS, OWNERS = 3, 36
TROUBLE_S = 90.0  # how long things go wrong
TIERS = ("enterprise", "pro", "free")


class World:
    """What outlives a scheduler, and who acts on it."""

    def __init__(self, seed: int) -> None:
        self.chances = Chances.of(seed)
        self.clock = SimulatedClock()
        self.store = MemoryStore()
        self.blobs = MemoryBlobs()
        self.journal: list[Ran] = []
        self.delivered: list[tuple[str, Mapping[str, Any]]] = []
        self.acknowledged: list[JobId] = []
        self.unheard: list[JobId] = []  # their owners did not ask again; if they were accepted, they must end
        self.lives: list[Life] = []
        self.trace: list[str] = []
        self.fleet_is_told = True
        self._limiter_away = False
        self.workers = {
            name: SimulatedWorker(name, self.chances, self.journal, self.say)
            for name in (f"worker-{n}" for n in range(WORKERS))
        }

    @property
    def living(self) -> list[Life]:
        """The schedulers that have not ended, and are not about to."""
        return [life for life in self.lives if not life.task.done() and not life.task.cancelling()]

    @property
    def life(self) -> Life:
        """The living scheduler that was started last."""
        return (self.living or self.lives)[-1]

    def say(self, told: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.clock.monotonic():8.2f}  {told}")

    async def run(self) -> None:
        """Live through the trouble, then let everything come to rest."""
        self.start_scheduler()
        tasks = [asyncio.create_task(self._tell_fleet())]
        owners = [asyncio.create_task(self._own(number)) for number in range(OWNERS)]
        await self._trouble()
        self.chances.calm = True
        self._heal()
        await asyncio.gather(*owners)
        await self._rest()
        for task in tasks:
            task.cancel()

    async def stop(self) -> None:
        """End the schedulers that are left."""
        for life in self.lives:
            life.crash()
        await asyncio.gather(*(life.task for life in self.lives), return_exceptions=True)

    def start_scheduler(self) -> None:
        """Let a new scheduler take the lead."""
        name = f"scheduler-{len(self.lives) + 1}"
        self.say(f"{name} starts")
        self.lives.append(Life(name, self.store, self.chances, self._connect, self, self.blobs))

    async def deliver(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Be the limiter."""
        await self.clock.sleep(self.chances.between(0.0, 0.05))
        lost = self._limiter_away or self.chances.happens(self.chances.store_fails)
        if lost and self.chances.random.random() < 0.5:
            raise Unavailable("it does not answer")
        self.delivered.append((kind, payload))
        if lost:
            raise Unavailable("its answer was lost")

    def _connect(self, address: str) -> Connection:
        return Connection(self.workers[address.split(":")[0]], self.chances)

    async def _tell_fleet(self) -> None:
        """Keep the directories of the schedulers as late as leases are."""
        listed: dict[str, float] = {}
        while True:
            now = self.clock.now()
            listed |= {worker.name: now for worker in self.workers.values() if worker.reachable}
            alive = [self.workers[name].record for name, seen in listed.items() if now - seen < LEASE_S]
            if self.fleet_is_told:
                for life in self.lives:
                    if not life.task.done() and dict(life.directory.workers()) != {r.worker_id: r for r in alive}:
                        asyncio.get_running_loop().create_task(life.told(*alive))
            await self.clock.sleep(self.chances.between(0.2, 1.0))

    async def _own(self, number: int) -> None:
        """Submit a job until it is acknowledged; some are withdrawn, some have no time."""
        job_id, chances = JobId(f"job_{number:02}"), self.chances
        await self.clock.sleep(chances.between(0.0, TROUBLE_S * 0.7))
        deadline = self.clock.now() + chances.between(2.0, 60.0) if chances.random.random() < 0.15 else None
        job = fakes.job(
            self.clock.now(), id=job_id, request_id=job_id, deadline_at=deadline, tier=chances.random.choice(TIERS)
        )
        patient = chances.random.random() < 0.85
        if not await self._insist(job_id, "submit", lambda scheduler: scheduler.desk.submit(job), patient=patient):
            self.unheard.append(job_id)
            return
        self.acknowledged.append(job_id)
        self.say(f"{job_id} is acknowledged")
        if chances.random.random() < 0.2:
            await self.clock.sleep(chances.between(0.0, 15.0))
            await self._insist(job_id, "cancel", lambda scheduler: scheduler.desk.cancel(job_id, fakes.TENANT))

    async def _insist(self, job_id: JobId, what: str, action: Any, *, patient: bool = True) -> bool:
        """Ask until there is an answer; returns False when the first one is lost and the owner is not patient."""
        while True:
            try:
                await self._anybody().ask(action)
            except (DarkroomError, StoreUnavailable, Deposed) as error:
                self.say(f"{what} {job_id}: {error}")
                if not patient:
                    return False
                await self.clock.sleep(self.chances.between(0.1, 3.0))
            else:
                return True

    def _anybody(self) -> Life:
        """Return a scheduler that lives, leading or not; owners do not know."""
        return self.chances.random.choice(self.living or [self.life])

    async def _trouble(self) -> None:
        ends_at = self.clock.now() + TROUBLE_S
        running: list[asyncio.Task[None]] = []
        while self.clock.now() < ends_at:
            await self.clock.sleep(self.chances.between(0.5, 15.0))
            trouble = self.chances.random.choice(self.chances.troubles)
            running.append(asyncio.create_task(self._make(trouble, self.chances.between(0.1, 20.0))))
        await asyncio.gather(*running)

    async def _make(self, trouble: str, seconds: float) -> None:
        worker = self.chances.random.choice(list(self.workers.values()))
        self.say(f"{trouble} for {seconds:.1f} s ({worker.name} or {self.life.name})")
        match trouble:
            case "worker crashes":
                await self._crash_worker(worker, seconds)
            case "worker is cut off":
                worker.cut_off = True
                await self.clock.sleep(seconds)
                worker.cut_off = False
            case "worker stands still":
                await self._pause(worker.name, seconds)
            case "scheduler crashes":
                self.life.crash()
                await self.clock.sleep(seconds / 4)
                self._start_if_none()
            case "scheduler stands still":
                await self._overtake(seconds)
            case "fleet is not told":
                self.fleet_is_told = False
                await self.clock.sleep(seconds)
                self.fleet_is_told = True
            case "limiter is away":
                self._limiter_away = True
                await self.clock.sleep(seconds)
                self._limiter_away = False

    async def _crash_worker(self, worker: SimulatedWorker, seconds: float) -> None:
        if worker.up:
            worker.crash()
            await self.clock.sleep(seconds)
            worker.come_back()

    async def _overtake(self, seconds: float) -> None:
        """Let the leader stand still; when that is long, another one takes the lead before it goes on."""
        life = self.life
        _loop().pause(life.name)
        await self.clock.sleep(seconds / 2)
        if seconds > 6.0 and self.life is life:
            self.start_scheduler()
        await self.clock.sleep(seconds / 2)
        _loop().go_on(life.name)
        self.say(f"{life.name} goes on")

    async def _pause(self, name: str, seconds: float) -> None:
        _loop().pause(name)
        await self.clock.sleep(seconds)
        _loop().go_on(name)

    def _start_if_none(self) -> None:
        if not self.living:
            self.start_scheduler()

    def _heal(self) -> None:
        self.say("everything is well from now on")
        self._start_if_none()

    async def _rest(self) -> None:
        """Return when nothing is open any more; raises when that takes for ever, or when work is not taken up."""
        idle_s, until = 0.0, self.clock.now() + 4000.0
        while await self.store.open_jobs() or await self.store.pending_messages(1, self.clock.now() + 1e6):
            await self.clock.sleep(1.0)
            self._start_if_none()
            idle_s = idle_s + 1.0 if await self._idles() else 0.0
            assert idle_s < 45.0, "jobs wait while workers have nothing to do"
            assert self.clock.now() < until, "some jobs never end"
        await self.clock.sleep(5.0)
        self._start_if_none()  # a late commit of its own wish to lead may depose even a lone one
        await self.clock.sleep(75.0)

    async def _idles(self) -> bool:
        now = self.clock.now()
        waits = any(job.state.value == "QUEUED" and job.not_before <= now for job in await self.store.open_jobs())
        return waits and all(worker.running() == 0 for worker in self.workers.values())


def _loop() -> SimulatedLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return loop
