"""Schedulers as processes: each life is the real Scheduler over the one store, and may crash or stand still."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from libs.blobs.memory import MemoryBlobs
from libs.clients.modelserver import ModelServer
from libs.coordination.client import EtcdClient
from libs.errors import Unavailable
from libs.fleet.record import WorkerRecord
from libs.ids import JobId
from libs.testing.simulated_loop import SimulatedClock, process_named
from services.scheduler.desk import Desk
from services.scheduler.replicas import leadership
from services.scheduler.replicas.candidacy import Candidacy
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.replicas.standby_desk import StandbyDesk
from services.scheduler.results.keeping import Results
from services.scheduler.scheduler import Scheduler
from services.scheduler.settlement.renewer import Limiter
from services.scheduler.storage.store import Deposed, JobStore
from tests.unit.services.scheduler import fakes
from tests.unit.services.scheduler.faulty_store import FaultyStore
from tests.unit.services.scheduler.simulation.chances import Chances
from tests.unit.services.scheduler.simulation.coordination import Line
from tests.unit.services.scheduler.simulation.watching import Beginning

T = TypeVar("T")
ASK_S = 10.0  # the deadline of an owner's call
LEASE_TTL_S = 5


class Clock(SimulatedClock):
    """A process's own: its time of day is some seconds off, its seconds are as long as everybody's."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s

    def now(self) -> float:
        """Return Unix seconds."""
        return super().now() + self._ahead_s


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every life of a scheduler finds."""

    store: JobStore
    chances: Chances
    connect: Callable[[str], ModelServer]
    limiter: Limiter
    blobs: MemoryBlobs
    chosen: Callable[[Life, JobId], None]  # hears of every choice of a leader


class Life:
    """One start of a scheduler. Without a line to etcd it takes the lead at once, as one does that is alone."""

    def __init__(self, name: str, around: Surroundings, line: Line | None, ahead_s: float) -> None:
        self.name = name
        self.line = line
        self.crashed = False
        self.directory = fakes.FakeDirectory()
        self._clock = Clock(ahead_s)
        self._faulty = FaultyStore(around.store, self._clock, around.chances.of_store)
        self._calls: set[asyncio.Task[object]] = set()
        self._store = self._faulty.promised
        self._standing_by = StandbyDesk(
            self._store, self._clock, result_life_s=Results(around.blobs).keeping.result_life_s
        )
        with process_named(name):
            results = Results(around.blobs)
            self.scheduler = Scheduler(
                self._store, self.directory, around.connect, around.limiter, results, self._clock, NOBODY
            )
            self.scheduler.jobs.beginning = Beginning(functools.partial(around.chosen, self))
            self.task = asyncio.create_task(self._run())

    def now(self) -> float:
        """Return Unix seconds as it sees them."""
        return self._clock.now()

    @property
    def leads(self) -> bool:
        """Whether it believes to."""
        return self.scheduler.lead.serving and not self.task.done()

    @property
    def desk(self) -> Desk | StandbyDesk:
        """Who answers owners. Raises Unavailable while nobody does."""
        if self.scheduler.lead.serving:
            return self.scheduler.desk
        if self.line is None:
            raise Unavailable("nobody listens")
        return self._standing_by

    @property
    def deposed(self) -> bool:
        """Whether it ended because another one leads."""
        if not self.task.done() or self.task.cancelled():
            return False
        return _is_deposed(self.task.exception())

    @property
    def fault(self) -> BaseException | None:
        """What it died of, if that was a fault of ours."""
        if not self.task.done() or self.task.cancelled() or self.deposed:
            return None
        return self.task.exception() or RuntimeError("it ended by itself")

    def crash(self) -> None:
        """End at once: nothing it still wanted to write is written, nobody is answered."""
        self.crashed = self._faulty.dead = True
        if self.line is not None:
            self.line.cut = True
        for task in (self.task, *self._calls):
            task.cancel()

    async def told(self, *records: WorkerRecord) -> None:
        """Hear of the fleet."""
        with process_named(self.name):
            await asyncio.create_task(self.directory.set(*records))

    async def ask(self, action: Callable[[Life], Awaitable[T]]) -> T:
        """Call it as an owner does: with a deadline, and with no answer when it dies meanwhile."""
        if self.task.done():
            raise Unavailable("nobody listens")
        with process_named(self.name):
            call: asyncio.Task[T] = asyncio.create_task(_answer(action, self))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        await asyncio.wait([call], timeout=ASK_S)
        if not call.done():
            call.cancel()
        if not call.done() or call.cancelled():
            raise Unavailable("no answer")
        return call.result()

    async def _run(self) -> None:
        """Do as app does."""
        async with asyncio.TaskGroup() as tasks:
            if self.line is None:
                self.scheduler.lead.epoch = await leadership.take(self._store, self._clock, self.name)
            else:
                candidacy = self._candidacy(self.line)
                tasks.create_task(candidacy.run())
                self.scheduler.lead.epoch = await candidacy.win()
                tasks.create_task(candidacy.hold())
            ready = asyncio.Event()
            tasks.create_task(self.scheduler.run(ready))
            await ready.wait()
            self.scheduler.lead.serving = True
            tasks.create_task(self.scheduler.handover.run())

    def _candidacy(self, line: Line) -> Candidacy:
        etcd, address = cast("EtcdClient", line), f"{self.name}:1"
        return Candidacy(etcd, self._store, self._clock, holder=self.name, address=address, lease_ttl_s=LEASE_TTL_S)


async def _answer(action: Callable[[Life], Awaitable[T]], life: Life) -> T:
    return await action(life)


def _is_deposed(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_deposed(part) for part in error.exceptions)
    return isinstance(error, Deposed)
