"""Starts whose commit takes its time, or comes after nobody waits for it any more."""

from __future__ import annotations

import asyncio

import pytest

from services.scheduler.job import Job, JobState
from services.scheduler.scheduler import Scheduler
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import StoreUnavailable
from services.scheduler.storage.wishes import Start
from tests.unit.services.scheduler.fakes import MODEL, TENANT, Bench, FakeModelServer, pictures, record, silence


class Slow(MemoryStore):
    """Holds a start up before or after its commit, while it has a gate for it."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[str, asyncio.Event] = {}

    async def start(self, start: Start) -> Job | None:
        await self._pass("before")
        started = await super().start(start)
        await self._pass("after")
        return started

    async def _pass(self, name: str) -> None:
        if name in self.gates:
            await self.gates[name].wait()


class Late(MemoryStore):
    """Commits a start only after it was given up, and after the next read."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Start] = []
        self.slow = 1

    async def start(self, start: Start) -> Job | None:
        if self.slow:
            self.slow -= 1
            self.late.append(start)
            raise StoreUnavailable("no answer in time")
        return await super().start(start)


def running(scheduler: Scheduler) -> int:
    """The attempts of the tenant that the order counts."""
    tenant = scheduler.jobs.ordering._tiers.by_name["pro"].tenants.get(TENANT)
    return tenant.running if tenant else 0


async def begun(bench: Bench, when: str, *names: str) -> tuple[Job, asyncio.Event, list[FakeModelServer]]:
    """A job whose start is held up."""
    assert isinstance(bench.store, Slow)
    gate = bench.store.gates[when] = asyncio.Event()
    servers = await bench.workers(*map(record, names), script=silence)
    return await bench.submit(), gate, servers


@pytest.mark.parametrize("fleet", [("w1",), ("w1", "w2")])  # nobody else is free, or somebody is
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_look_at_a_job_that_just_begins_leaves_it_to_its_begin(when: str, fleet: tuple[str, ...]) -> None:
    bench = Bench(Slow())
    async with bench.running() as scheduler:
        job, gate, servers = await begun(bench, when, *fleet)
        scheduler.reconciler.doubt(job.id)
        await bench.clock.advance(1.1)
        gate.set()
        assert (await bench.now(job.id)).state is JobState.RUNNING
        [(server, order)] = [(server, order) for server in servers for order in server.orders]
        assert running(scheduler) == 1
        server.say(order, *pictures(order))
        assert (await bench.now(job.id)).state is JobState.SUCCEEDED
        assert (await bench.outcomes(job.id), running(scheduler)) == ([("succeeded", "")], 0)


async def test_a_cancel_that_is_found_while_a_job_begins_reaches_its_worker() -> None:
    bench = Bench(Slow())
    async with bench.running() as scheduler:
        job, gate, servers = await begun(bench, "after", "w1", "w2")
        await bench.store.request_cancel(job.id, TENANT, scheduler.lead.epoch)
        scheduler.reconciler.doubt(job.id)
        await bench.clock.advance(1.1)
        gate.set()
        await bench.now(job.id)
        assert [told for server in servers for told in server.cancelled] == [(job.id, 1)]


async def test_a_start_that_is_committed_after_it_was_given_up_is_taken_back() -> None:
    store = Late()
    bench = Bench(store)
    async with bench.running():
        await bench.workers(record("w1"), script=silence)
        rested = store.get

        async def get(job_id: object, tenant: object = None) -> Job | None:
            found = await rested(job_id, tenant)  # type: ignore[arg-type]
            if store.late:
                await bench.directory.set()  # so that nobody tries it again and finds out
                await MemoryStore.start(store, store.late.pop())
            return found

        store.get = get  # type: ignore[method-assign]
        job = await bench.submit()
        assert (await bench.now(job.id)).state is JobState.RUNNING
        await bench.clock.advance(1.1)
        assert (await bench.now(job.id)).state is JobState.QUEUED


async def test_a_job_that_runs_for_nobody_expires_all_the_same() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        job = await bench.submit(deadline_at=bench.clock.now() + 60.0)
        start = Start(job.id, 1, record().worker_id, scheduler.lead.epoch, bench.clock.now(), "", MODEL.pinned)
        await bench.store.start(start)
        await bench.clock.advance(61.0)
        await bench.clock.advance(1.1)
        assert (await bench.now(job.id)).state is JobState.EXPIRED
