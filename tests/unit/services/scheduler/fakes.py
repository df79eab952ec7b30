"""A scheduler in one event loop: memory store, a clock that stands still, workers that say what a test tells them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from libs.blobs.memory import MemoryBlobs
from libs.clients.device_state import DeviceTime, ModelPlace
from libs.clients.limiter import OpenReservation
from libs.clients.modelserver import AttemptDone, AttemptEvent, Order, Progress, WorkerLost
from libs.errors import NotFound, Unavailable
from libs.fleet.record import WorkerRecord
from libs.generation.attempt import ImageStored, StageDone
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec
from libs.ids import JobId, KeyId, TenantId, WorkerId, new_job_id
from libs.testing.clock import ManualClock
from services.scheduler.job import Job
from services.scheduler.replicas import leadership
from services.scheduler.results.keeping import Results
from services.scheduler.scheduler import Scheduler
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import JobStore

MODEL = Model(id="shapes", version="v1", pipeline="StableDiffusionPipeline")
TENANT = TenantId("acme")
STEPS = 3
Line = AttemptEvent | Exception
Script = Callable[[Order], Sequence[Line]]


def spec(**changes: Any) -> GenerationSpec:
    fields: dict[str, Any] = {
        "prompt": "a red circle",
        "negative_prompt": "",
        "model": "shapes",
        "width": 128,
        "height": 128,
        "images": 1,
        "steps": STEPS,
        "guidance_scale": 5.0,
        "seed": 7,
        "sampler": "euler",
    }
    return GenerationSpec(**{**fields, **changes})


def job(now: float, **changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": new_job_id(now),
        "tenant_id": TENANT,
        "tier": "pro",
        "key_id": KeyId("key_1"),
        "model": "shapes",
        "model_version": MODEL.pinned,
        "spec": spec(),
        "estimated_units": 300.0,
        "created_at": now,
        "queued_at": now,
    }
    return Job(**{**fields, **changes})


def record(name: str = "modelserver-0", incarnation: str = "a", **changes: Any) -> WorkerRecord:
    fields: dict[str, Any] = {
        "worker_id": WorkerId(name),
        "incarnation": incarnation,
        "address": f"{name}:{incarnation}",
        "device": "cpu",
        "memory_bytes": 0,
        "models": (MODEL.pinned,),
        "resident": (),
        "rows": 1,
        "rows_in_use": 0,
        "started_at": 0.0,
    }
    return WorkerRecord(**{**fields, **changes})


def pictures(order: Order) -> list[Line]:
    """The events of an attempt that goes well."""
    steps = [Progress(order.attempt, step, order.spec.steps, 0.1) for step in range(1, order.spec.steps + 1)]
    images = [
        ImageStored(i, f"{i:064x}", "image/png", 128, 128, order.spec.image_seed(i), 9)
        for i in range(order.spec.images)
    ]
    return [*steps, StageDone("denoise", 1.0, 2.0), *images, AttemptDone(250.0)]


def silence(order: Order) -> list[Line]:
    """A worker that has said nothing yet; the test goes on with `say`."""
    return []


class FakeModelServer:
    """Says what its script holds, then what `say` adds; keeps what it was asked, and what it has begun."""

    def __init__(self, script: Script = pictures, models: Sequence[Model] = (MODEL,)) -> None:
        self.script = script
        self.models = list(models)
        self.orders: list[Order] = []
        self.attached: list[Order] = []
        self.known: set[tuple[JobId, int]] = set()
        self.cancelled: list[tuple[JobId, int]] = []
        self.moves: list[tuple[str, JobId]] = []  # what was parked and resumed
        self.answers: list[bool | Exception | asyncio.Event] = []  # to these, in order; then always yes
        self.warmed: list[tuple[str, str]] = []
        self.evicted: list[str] = []
        self.places: list[ModelPlace] = []
        self.time = DeviceTime()
        self.closed = False
        self._lines: dict[tuple[JobId, int], asyncio.Queue[Line]] = defaultdict(asyncio.Queue)

    def say(self, order: Order, *lines: Line) -> None:
        for line in lines:
            self._lines[order.job_id, order.attempt].put_nowait(line)

    def lose(self, order: Order, *lines: Line) -> None:
        """Say something, break the stream and forget the attempt, as a worker does that dies and comes back."""
        self.known.discard((order.job_id, order.attempt))
        self.say(order, *lines, WorkerLost("reset"))

    async def execute(self, order: Order) -> AsyncGenerator[AttemptEvent, None]:
        if order.attach:
            self.attached.append(order)
            if (order.job_id, order.attempt) not in self.known:
                raise NotFound("not known here", reason="ATTEMPT_UNKNOWN")
        else:
            self.orders.append(order)
            self.known.add((order.job_id, order.attempt))
            self.say(order, *self.script(order))
        while True:
            line = await self._lines[order.job_id, order.attempt].get()
            if isinstance(line, Exception):
                raise line
            yield line

    async def cancel(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        self.cancelled.append((job_id, attempt))
        return True

    async def describe_models(self) -> list[Model]:
        return list(self.models)

    async def warm(self, pinned: str, tier: str) -> None:
        self.warmed.append((pinned, tier))

    async def evict(self, pinned: str) -> bool:
        self.evicted.append(pinned)
        return True

    async def residency(self) -> list[ModelPlace]:
        return list(self.places)

    async def device_time(self) -> DeviceTime:
        return self.time

    async def park(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        self.moves.append(("park", job_id))
        return await self._answer()

    async def resume(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        self.moves.append(("resume", job_id))
        return await self._answer()

    async def _answer(self) -> bool:
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return True
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


class FakeDirectory:
    """A fleet that a test sets."""

    def __init__(self) -> None:
        self._workers: Mapping[WorkerId, WorkerRecord] = MappingProxyType({})
        self._changed = asyncio.Condition()

    def workers(self) -> Mapping[WorkerId, WorkerRecord]:
        return self._workers

    async def wait_for(self, wanted: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(wanted)

    async def set(self, *records: WorkerRecord) -> None:
        self._workers = MappingProxyType({r.worker_id: r for r in records})
        async with self._changed:
            self._changed.notify_all()


class FakeLimiter:
    """Takes messages, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.delivered: list[tuple[str, Mapping[str, Any]]] = []
        self.renewed: list[list[JobId]] = []
        self.forgot: set[JobId] = set()

    async def deliver(self, kind: str, payload: Mapping[str, Any]) -> None:
        self.asked += 1
        if self.away:
            raise Unavailable("gone", reason="LIMITER_DEGRADED")
        self.delivered.append((kind, payload))

    async def renew(self, reservations: Sequence[OpenReservation]) -> Sequence[JobId]:
        if self.away:
            raise Unavailable("gone", reason="LIMITER_DEGRADED")
        self.renewed.append([each.reservation_id for each in reservations])
        return [each.reservation_id for each in reservations if each.reservation_id in self.forgot]


class Bench:
    """One scheduler at a time over what outlives it."""

    def __init__(self, store: JobStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.clock = ManualClock()
        self.directory = FakeDirectory()
        self.limiter = FakeLimiter()
        self.blobs = MemoryBlobs()
        self.servers: dict[str, FakeModelServer] = {}
        self.scheduler: Scheduler

    def server(self, address: str) -> FakeModelServer:
        return self.servers.setdefault(address, FakeModelServer())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scheduler]:
        epoch = await leadership.take(self.store, self.clock)
        self.scheduler = Scheduler(
            self.store, self.directory, self.server, self.limiter, Results(self.blobs), self.clock, epoch
        )
        self.scheduler.outbox.gather_s = 0.0  # the clock stands still
        self.scheduler.dispatcher.key_of = lambda job: job.cache_key  # tests give keys by hand
        task = asyncio.create_task(self.scheduler.run())
        await self.clock.settle()
        yield self.scheduler
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def workers(self, *records: WorkerRecord, script: Script = pictures) -> list[FakeModelServer]:
        """Make these the fleet, each new one with a script."""
        for r in records:
            self.servers.setdefault(r.address, FakeModelServer(script))
        await self.directory.set(*records)
        await self.clock.settle()
        return [self.servers[r.address] for r in records]

    async def submit(self, **changes: Any) -> Job:
        accepted = await self.scheduler.desk.submit(job(self.clock.now(), **changes))
        await self.clock.settle()
        return accepted.job

    async def now(self, job_id: JobId) -> Job:
        """The job as the store has it, once everything has come to rest."""
        for _ in range(5):
            await self.clock.settle()
        found = await self.store.get(job_id)
        assert found is not None
        return found

    async def kinds(self, job_id: JobId) -> list[str]:
        return [event.kind for event in await self.store.events(job_id, 0)]

    async def outcomes(self, job_id: JobId) -> list[tuple[str, str]]:
        return [(attempt.outcome, attempt.reason) for attempt in await self.store.attempts(job_id)]
