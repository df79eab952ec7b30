"""The network between schedulers and workers: it loses, doubles and delays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from libs.clients.device_state import DeviceTime
from libs.clients.modelserver import (
    AttemptDone,
    AttemptEvent,
    AttemptFailed,
    ModelPlace,
    Order,
    Progress,
    WorkerLost,
    WorkerRefused,
)
from libs.errors import DarkroomError, Unavailable
from libs.generation.model import Model
from libs.ids import JobId
from libs.testing.simulated_loop import SimulatedClock, process_named
from tests.unit.services.scheduler import fakes
from tests.unit.services.scheduler.simulation.chances import Chances
from tests.unit.services.scheduler.simulation.drawings import MODELS, Drawing
from tests.unit.services.scheduler.simulation.workers import SimulatedWorker

LEASE_S = 5.0


class Connection(fakes.FakeModelServer):
    """A scheduler's way to one incarnation of a worker."""

    def __init__(self, worker: SimulatedWorker, chances: Chances) -> None:
        super().__init__()
        self._worker = worker
        self._incarnation = worker.incarnation
        self._chances = chances
        self._clock = SimulatedClock()
        self._under_way: set[asyncio.Task[None]] = set()

    async def execute(self, order: Order) -> AsyncGenerator[AttemptEvent, None]:
        """Run an attempt."""
        await self._clock.sleep(self._chances.between(0.0, 0.05))
        if not self._answers():
            raise WorkerRefused("cannot be reached", reason="UNAVAILABLE")
        if self._chances.happens(self._chances.order_goes_wrong):
            self._comes_later(order)
            if self._chances.happens(0.5):
                raise WorkerLost("nobody knows whether it arrived")
        drawing = self._worker.take(order)
        drawing.followers += 1
        try:
            async for event in self._stream(drawing):
                yield event
        finally:
            drawing.followers -= 1

    async def _stream(self, drawing: Drawing) -> AsyncGenerator[AttemptEvent, None]:
        at = 0
        while True:
            changed = drawing.changed
            if at < len(drawing.events):
                event, at = drawing.events[at], at + 1
                async for heard in self._carried(event):
                    yield heard
                if isinstance(event, AttemptDone | AttemptFailed):
                    return
            elif not self._answers():
                raise WorkerLost("it stopped answering")
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LEASE_S):  # how fast a connection that is cut is noticed
                        await changed.wait()

    async def cancel(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Stop an attempt."""
        async with self._asked():
            self._worker.heed(epoch)
            return self._worker.cancel((job_id, attempt))

    async def park(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Take an attempt off the device."""
        async with self._asked():
            self._worker.heed(epoch)
            return await self._worker.park((job_id, attempt))

    async def resume(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Let a parked attempt go on."""
        async with self._asked():
            self._worker.heed(epoch)
            return self._worker.resume((job_id, attempt))

    async def describe_models(self) -> list[Model]:
        """Return what it draws."""
        async with self._asked():
            return [model for model in MODELS if model.pinned in self._worker.able]

    async def residency(self) -> list[ModelPlace]:
        """Return where the weights are."""
        async with self._asked():
            resident = self._worker.resident
            return [ModelPlace(model, "vram" if model in resident else "disk", 1.0) for model in self._worker.able]

    async def device_time(self) -> DeviceTime:
        """Return what the device's time went into: nobody asks here."""
        async with self._asked():
            return DeviceTime()

    async def warm(self, pinned: str, tier: str) -> None:
        """Begin to load a model."""
        async with self._asked():
            self._worker.warm(pinned)

    async def evict(self, pinned: str) -> bool:
        """Let a model go."""
        async with self._asked():
            return self._worker.evict(pinned)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[None]:
        """Ask for the block; the question, or the answer, may be lost."""
        await self._clock.sleep(self._chances.between(0.0, 0.05))
        if not self._answers() or self._chances.happens(self._chances.order_goes_wrong):
            raise Unavailable("no answer")
        yield
        if not self._answers() or self._chances.happens(self._chances.order_goes_wrong):
            raise Unavailable("no answer")

    def _answers(self) -> bool:
        return self._worker.reachable and self._worker.incarnation == self._incarnation

    async def _carried(self, event: AttemptEvent) -> AsyncGenerator[AttemptEvent, None]:
        """Yield what arrives of an event: once, twice, or not at all where that may be."""
        await self._clock.sleep(self._chances.between(0.0, 0.02))
        if self._chances.happens(self._chances.event_goes_wrong):
            fate = self._chances.random.choice(("broken", "doubled", "dropped", "late"))
            if fate == "broken" or not self._answers():
                raise WorkerLost("the stream broke")
            if fate == "doubled":
                yield event
            if fate == "dropped" and isinstance(event, Progress):
                return
            if fate == "late":
                await self._clock.sleep(self._chances.between(0.0, 5.0))
        yield event

    def _comes_later(self, order: Order) -> None:
        """Let an order arrive (again) when its sender may have given it up."""
        task = asyncio.get_running_loop().create_task(self._deliver_late(order))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _deliver_late(self, order: Order) -> None:
        with process_named("network"):
            await self._clock.sleep(self._chances.between(0.1, 15.0))
        if self._answers():
            with contextlib.suppress(DarkroomError):
                self._worker.take(order)
