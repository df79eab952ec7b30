"""Schedulers as processes: each life is the real Scheduler over the one store, and may crash or stand still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from libs.blobs.memory import MemoryBlobs
from libs.clients.modelserver import ModelServer
from libs.errors import Unavailable
from libs.fleet.record import WorkerRecord
from libs.testing.simulated_loop import SimulatedClock, process_named
from services.scheduler.app import Scheduler
from services.scheduler.replicas import leadership
from services.scheduler.results.keeping import Results
from services.scheduler.settlement.outbox import Limiter
from services.scheduler.storage.store import Deposed, JobStore
from tests.unit.services.scheduler import fakes
from tests.unit.services.scheduler.faulty_store import FaultyStore
from tests.unit.services.scheduler.simulation.chances import Chances

T = TypeVar("T")
ASK_S = 10.0  # the deadline of an owner's call


class Life:
    """One start of a scheduler."""

    def __init__(
        self,
        name: str,
        store: JobStore,
        chances: Chances,
        connect: Callable[[str], ModelServer],
        limiter: Limiter,
        blobs: MemoryBlobs,
    ) -> None:
        self.name = name
        self.directory = fakes.FakeDirectory()
        self.scheduler: Scheduler | None = None
        self._clock = SimulatedClock()
        self._store = FaultyStore(store, self._clock, chances.of_store)
        self._connect, self._limiter, self._blobs = connect, limiter, blobs
        self._calls: set[asyncio.Task[object]] = set()
        with process_named(name):
            self.task = asyncio.create_task(self._run())

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
        self._store.dead = True
        for task in (self.task, *self._calls):
            task.cancel()

    async def told(self, *records: WorkerRecord) -> None:
        """Hear of the fleet."""
        with process_named(self.name):
            await asyncio.create_task(self.directory.set(*records))

    async def ask(self, action: Callable[[Scheduler], Awaitable[T]]) -> T:
        """Call it as an owner does: with a deadline, and with no answer when it dies meanwhile."""
        if self.scheduler is None or self.task.done():
            raise Unavailable("nobody listens")
        with process_named(self.name):
            call: asyncio.Task[T] = asyncio.create_task(_answer(action, self.scheduler))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        await asyncio.wait([call], timeout=ASK_S)
        if not call.done():
            call.cancel()
        if not call.done() or call.cancelled():
            raise Unavailable("no answer")
        return call.result()

    async def _run(self) -> None:
        epoch = await leadership.take(self._store.promised, self._clock)
        self.scheduler = Scheduler(
            self._store.promised, self.directory, self._connect, self._limiter, Results(self._blobs), self._clock, epoch
        )
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:  # as app does for one of several
            tasks.create_task(self.scheduler.run(ready))
            await ready.wait()
            tasks.create_task(self.scheduler.handover.run())


async def _answer(action: Callable[[Scheduler], Awaitable[T]], scheduler: Scheduler) -> T:
    return await action(scheduler)


def _is_deposed(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_deposed(part) for part in error.exceptions)
    return isinstance(error, Deposed)
