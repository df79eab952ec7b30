"""An answer of the store is lost once, at each durable boundary in turn: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import pytest

from libs.clients.modelserver import AttemptFailed, Order, Progress
from libs.clock import Clock
from libs.errors import DarkroomError
from libs.generation.attempt import Checkpointed, FailureKind
from libs.ids import JobId
from libs.testing.simulated_loop import SimulatedClock, simulate
from services.scheduler.job import Job, JobState
from services.scheduler.replicas import leadership
from services.scheduler.results.keeping import Results
from services.scheduler.scheduler import Scheduler
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import StoreUnavailable
from tests.unit.services.scheduler import fakes
from tests.unit.services.scheduler.faulty_store import Failing, FaultyStore, once

WRITES = ("accept", "start", "end", "requeue", "mark", "request_cancel", "messages_sent", "message_failed")
READS = ("attempts", "get", "open_jobs", "pending_messages")
NAMES = ("done", "retried", "withdrawn", "stopped", "late")
FAILINGS = (Failing.BEFORE, Failing.AFTER, Failing.LATE)
CASES = [
    *((method, number, failing) for method in WRITES for number in range(3) for failing in FAILINGS),
    *((method, number, Failing.BEFORE) for method in READS for number in range(3)),
]


class Town:
    """One scheduler, one worker with room for all, and owners who ask again until they are answered."""

    def __init__(self, method: str, number: int, failing: Failing) -> None:
        self.clock: Clock = SimulatedClock()
        self.truth = MemoryStore()
        self.store = FaultyStore(self.truth, self.clock, once(method, number, failing))
        self.directory = fakes.FakeDirectory()
        self.server = fakes.FakeModelServer(_lines)
        self.limiter = fakes.FakeLimiter()

    async def run(self) -> None:
        epoch = await leadership.take(self.store.promised, self.clock)
        scheduler = Scheduler(
            self.store.promised,
            self.directory,
            lambda _: self.server,
            self.limiter,
            Results(fakes.MemoryBlobs()),
            self.clock,
            epoch,
        )
        running = asyncio.create_task(scheduler.run())
        await self.clock.sleep(1.0)
        await self._live(scheduler)
        await self.clock.sleep(300.0)
        assert not running.done()
        await self._check(scheduler)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def _live(self, scheduler: Scheduler) -> None:
        async def submit(name: str, **changes: float) -> None:
            job = fakes.job(self.clock.now(), id=JobId(name), request_id=name, **changes)
            await self._insist(lambda: scheduler.desk.submit(job))

        with contextlib.suppress(StoreUnavailable):  # its owner does not ask again
            await scheduler.desk.submit(fakes.job(self.clock.now(), id=JobId("unheard")))
        await submit("late", deadline_at=self.clock.now() + 2.0)
        await submit("withdrawn")
        await self._insist(lambda: scheduler.desk.cancel(JobId("withdrawn"), fakes.TENANT))
        await self.clock.sleep(5.0)
        for name in ("done", "retried", "stopped"):
            await submit(name)
        await self.directory.set(fakes.record(rows=8))
        await self.clock.sleep(3.0)
        await self._insist(lambda: scheduler.desk.cancel(JobId("stopped"), fakes.TENANT))

    async def _insist(self, action: Callable[[], Awaitable[object]]) -> None:
        for _ in range(10):
            try:
                await action()
            except (StoreUnavailable, DarkroomError):
                await self.clock.sleep(0.2)
            else:
                return
        raise AssertionError("it was never answered")

    async def _check(self, scheduler: Scheduler) -> None:
        jobs = {name: await self._job(name) for name in NAMES}
        states = {name: job.state.value for name, job in jobs.items()}
        assert states == {
            "done": "SUCCEEDED",
            "retried": "SUCCEEDED",
            "withdrawn": "CANCELLED",
            "stopped": "CANCELLED",
            "late": "EXPIRED",
        }
        for name in NAMES:
            events = await self.truth.events(JobId(name), 0)
            assert sum(event.kind in ("completed", "failed", "cancelled", "expired") for event in events) == 1, name
            assert [event.seq for event in events] == list(range(1, len(events) + 1)), name
            self._check_messages(name)
        tokens = [(order.job_id, order.attempt) for order in self.server.orders]
        assert len(tokens) == len(set(tokens)), "an attempt was sent twice"
        assert await self.truth.open_jobs() == []
        assert await self.truth.pending_messages(10, self.clock.now() + 1e6) == []
        assert scheduler.jobs.running() == []
        assert scheduler.fleet.given(fakes.record(rows=8)) == ()

    async def _job(self, name: str) -> Job:
        job = await self.truth.get(JobId(name))
        assert job is not None, f"{name} was acknowledged and is lost"
        return job

    def _check_messages(self, name: str) -> None:
        told = [(kind, dict(payload)) for kind, payload in self.limiter.delivered if payload["reservation_id"] == name]
        settled = [payload for kind, payload in told if kind == "settle"]
        assert told[0][0] == "confirm", name
        assert settled, name
        assert all(payload == settled[0] for payload in settled), f"{name} was settled in two ways"


def _lines(order: Order) -> Sequence[fakes.Line]:
    if order.job_id == "retried" and order.attempt == 1:
        return [
            Progress(1, 1, 3, 1.0),
            Checkpointed("checkpoints/retried/1", 1, 3),
            AttemptFailed(FailureKind.TRANSIENT, "GENERATION_FAILED", "it broke"),
        ]
    if order.job_id == "stopped":
        return [Progress(order.attempt, 1, 3, 1.0), Checkpointed("checkpoints/stopped/1", 1, 3)]
    return fakes.pictures(order)


@pytest.mark.parametrize(("method", "number", "failing"), CASES)
def test_nothing_is_lost_or_done_twice(method: str, number: int, failing: Failing) -> None:
    town = Town(method, number, failing)
    simulate(1, town.run())
    if number == 0 and method != "message_failed":
        assert town.store.struck, "the plan never came true"
    assert JobState.QUEUED not in {job.state for job in town.truth._jobs.values()}
