"""One run: owners ask, workers draw, schedulers come and go, and for a while everything goes wrong that a seed drew."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from libs.blobs.memory import MemoryBlobs
from libs.clients.limiter import OpenReservation
from libs.errors import Unavailable
from libs.ids import JobId
from libs.testing.simulated_loop import SimulatedClock
from services.scheduler.job import Job
from services.scheduler.storage.memory_store import MemoryStore
from tests.unit.services.scheduler.simulation import watching
from tests.unit.services.scheduler.simulation.chances import Chances
from tests.unit.services.scheduler.simulation.coordination import Line, SimulatedEtcd
from tests.unit.services.scheduler.simulation.drawings import PINNED, Ran
from tests.unit.services.scheduler.simulation.lives import Life, Surroundings
from tests.unit.services.scheduler.simulation.network import LEASE_S, Connection
from tests.unit.services.scheduler.simulation.owners import OWNERS, Owner, look_after_dead_letters
from tests.unit.services.scheduler.simulation.troubles import Troubles
from tests.unit.services.scheduler.simulation.workers import SimulatedWorker

TROUBLE_S = 90.0  # how long things go wrong
WORKERS = 3
IDLE_S = 45.0  # for which jobs may wait while workers have nothing to do
REST_S = 4000.0


class World:
    """What outlives a scheduler, and who acts on it."""

    def __init__(self, seed: int) -> None:
        self.chances = Chances.of(seed)
        self.clock = SimulatedClock()
        self.store, self.blobs, self.etcd = MemoryStore(), MemoryBlobs(), SimulatedEtcd()
        self.journal: list[Ran] = []
        self.delivered: list[tuple[str, Mapping[str, Any]]] = []
        self.wishes: dict[JobId, Job] = {}  # as they were submitted
        self.acknowledged: dict[JobId, float] = {}  # when that was
        self.unheard: list[JobId] = []  # their owners did not ask again; if they were accepted, they must end
        self.cancelled: dict[JobId, float] = {}  # when that was acknowledged
        self.deleted: list[JobId] = []
        self.lives: list[Life] = []
        self.trace: list[str] = []
        self.seen_wrong: dict[str, None] = {}
        self.fleet_is_told = True
        self.limiter_away = False
        missing = self.chances.random.sample((*PINNED, ""), WORKERS)  # of what each cannot draw; two can draw anything
        self.workers = {
            name: SimulatedWorker(name, missing[n], self.chances, self.journal, self.say, self.blobs)
            for n, name in enumerate(f"worker-{n}" for n in range(WORKERS))
        }
        for name, worker in self.workers.items():
            worker.on_order = functools.partial(watching.ordered, self, name)
        chosen = functools.partial(watching.chosen, self)
        self._around = Surroundings(self.store, self.chances, self._connect, self, self.blobs, chosen)

    @property
    def living(self) -> list[Life]:
        """The schedulers that have not ended."""
        return [life for life in self.lives if not life.task.done() and not life.crashed]

    @property
    def life(self) -> Life:
        """The living scheduler that leads or, when none does, was started last."""
        leaders = [life for life in self.living if life.leads]
        return (leaders or self.living or self.lives)[-1]

    def anybody(self) -> Life:
        """Return a scheduler that lives, leading or not; owners do not know."""
        return self.chances.random.choice(self.living or [self.life])

    def say(self, told: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.clock.monotonic():8.2f}  {told}")

    async def run(self) -> None:
        """Live through the trouble, then let everything come to rest."""
        self.start_scheduler()
        tasks = [asyncio.create_task(work) for work in (self._tell_fleet(), self.etcd.run(), self._keep_up())]
        owners = [asyncio.create_task(Owner(self, number).live(TROUBLE_S * 0.6)) for number in range(OWNERS)]
        owners.append(asyncio.create_task(look_after_dead_letters(self)))
        await Troubles(self).make(TROUBLE_S)
        self.chances.calm = True
        self.say("everything is well from now on")
        _, unanswered = await asyncio.wait(owners, timeout=REST_S)
        assert not unanswered, "somebody is never answered"
        await self._rest()
        for task in tasks:
            task.cancel()

    async def stop(self) -> None:
        """End the schedulers that are left."""
        for life in self.lives:
            life.crash()
        await asyncio.gather(*(life.task for life in self.lives), return_exceptions=True)

    def start_scheduler(self) -> None:
        """Start a scheduler, as a candidate where several are."""
        name = f"scheduler-{len(self.lives) + 1}"
        ahead_s = self.chances.between(-1.0, 1.0) * self.chances.clocks_differ_s
        line = Line(self.etcd, self.chances) if self.chances.replicas > 1 else None
        self.say(f"{name} starts")
        self.lives.append(Life(name, self._around, line, ahead_s))

    async def deliver(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Be the limiter."""
        await self.clock.sleep(self.chances.between(0.0, 0.05))
        lost = self.limiter_away or self.chances.happens(self.chances.store_fails)
        if lost and self.chances.random.random() < 0.5:
            raise Unavailable("it does not answer")
        self.delivered.append((kind, payload))
        if lost:
            raise Unavailable("its answer was lost")

    async def renew(self, _reservations: Sequence[OpenReservation]) -> Sequence[JobId]:
        """Be a limiter that forgets nothing."""
        if self.limiter_away:
            raise Unavailable("it does not answer")
        return ()

    def _connect(self, address: str) -> Connection:
        return Connection(self.workers[address.split(":")[0]], self.chances)

    async def _keep_up(self) -> None:
        """Be the supervisor: start schedulers again that have ended."""
        while True:
            await self.clock.sleep(self.chances.between(0.5, 5.0))
            while len(self.living) < self.chances.replicas:
                self.start_scheduler()

    async def _tell_fleet(self) -> None:
        """Keep the directories of the schedulers as late as leases are."""
        listed: dict[str, float] = {}
        while True:
            now = self.clock.now()
            listed |= {worker.name: now for worker in self.workers.values() if worker.reachable}
            alive = {name: self.workers[name].record for name, seen in listed.items() if now - seen < LEASE_S}
            if self.fleet_is_told:
                for life in self.living:
                    if dict(life.directory.workers()) != alive:
                        asyncio.get_running_loop().create_task(life.told(*alive.values()))
            await self.clock.sleep(self.chances.between(0.2, 1.0))

    async def _rest(self) -> None:
        """Return when nothing is open any more; raises when that takes for ever, or when work is not taken up."""
        idle_s, until = 0.0, self.clock.now() + REST_S
        while await self.store.open_jobs() or await self.store.pending_messages(1, self.clock.now() + 1e6):
            await self.clock.sleep(1.0)
            idle_s = idle_s + 1.0 if await self._idles() else 0.0
            assert idle_s < IDLE_S, "jobs wait while workers have nothing to do"
            assert self.clock.now() < until, "some jobs never end"
        await self.clock.sleep(80.0)  # parked runs that nobody follows are given up, candidates come and are beaten

    async def _idles(self) -> bool:
        now = self.clock.now()
        waits = any(job.state.value == "QUEUED" and job.not_before <= now for job in await self.store.open_jobs())
        return waits and all(worker.running() == 0 for worker in self.workers.values())
