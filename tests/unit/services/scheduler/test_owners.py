"""Cancel, delete, deadlines, restarts, and a database that is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import image_key
from libs.clients.modelserver import AttemptFailed, Progress
from libs.errors import NotFound, Unavailable
from libs.generation.attempt import FailureKind
from libs.ids import TenantId, WorkerId
from libs.testing.clock import ManualClock
from services.scheduler.job import JobState
from services.scheduler.placement.fleet import RETURN_S
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import StoreUnavailable
from services.scheduler.storage.wishes import Requeue, Start
from tests.unit.services.scheduler.fakes import STEPS, TENANT, Bench, job, pictures, record, silence, spec
from tests.unit.services.scheduler.faulty_store import EveryOther, FaultyStore


@pytest.fixture
def bench() -> Bench:
    return Bench()


STOPPED = AttemptFailed(FailureKind.CANCELLED, "", "", 40.0)


async def test_a_waiting_job_is_cancelled_at_once_and_again(bench: Bench) -> None:
    async with bench.running() as scheduler:
        waiting = await bench.submit()
        for _ in range(2):
            assert (await scheduler.desk.cancel(waiting.id, TENANT)).state is JobState.CANCELLED
        await bench.workers(record())
        assert await bench.kinds(waiting.id) == ["queued", "cancelled"]
        assert bench.limiter.delivered[-1][1]["charged_units"] == 0.0
        with pytest.raises(NotFound):
            await scheduler.desk.cancel(waiting.id, TenantId("other"))


async def test_a_running_job_is_told_to_stop_and_pays_what_it_used(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        assert (await scheduler.desk.cancel(waiting.id, TENANT)).state is JobState.RUNNING
        await bench.clock.settle()
        assert server.cancelled == [(waiting.id, 1)]
        server.say(server.orders[0], STOPPED)
        ended = await bench.now(waiting.id)
        assert (ended.state, ended.charged_units) == (JobState.CANCELLED, 40.0)
        assert await bench.kinds(waiting.id) == ["queued", "started", "cancelled"]


async def test_a_cancel_that_comes_too_late_tells_the_truth(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        await scheduler.desk.cancel(waiting.id, TENANT)
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert (await bench.now(waiting.id)).state is JobState.SUCCEEDED


async def test_a_cancelled_job_whose_worker_dies_does_not_run_again(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        await scheduler.desk.cancel(waiting.id, TENANT)
        (successor,) = await bench.workers(record(incarnation="b"))
        assert (await bench.now(waiting.id)).state is JobState.CANCELLED
        assert successor.orders == []


@pytest.mark.parametrize(
    ("kind", "charged"),
    [(FailureKind.CANCELLED, 99.0), (FailureKind.BLOCKED, 99.0), (FailureKind.TRANSIENT, 0.0)],
)
async def test_a_cancelled_job_does_not_pay_for_a_fault_of_the_platform(
    bench: Bench, kind: FailureKind, charged: float
) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        await scheduler.desk.cancel(waiting.id, TENANT)
        server.say(server.orders[0], AttemptFailed(kind, "", "it broke", 99.0))
        cancelled = await bench.now(waiting.id)
        assert (cancelled.state, cancelled.charged_units) == (JobState.CANCELLED, charged)


async def test_delete_removes_the_pictures_nobody_else_has(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await bench.workers(record())
        one, two = await bench.submit(), await bench.submit(spec=spec(images=2))
        keys = [image_key(f"{i:064x}") for i in range(2)]
        for key in keys:
            await bench.blobs.put(key, b"png", "image/png")
        await scheduler.desk.delete(two.id, TENANT)
        assert [await bench.blobs.exists(key) for key in keys] == [True, False]
        await scheduler.desk.delete(one.id, TENANT)
        assert not await bench.blobs.exists(keys[0])
        with pytest.raises(NotFound):
            await scheduler.desk.delete(one.id, TENANT)


class Overtaken(MemoryBlobs):
    """Lets something happen before an object goes."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    async def delete(self, key: str) -> None:
        await self._meanwhile()
        await super().delete(key)


async def test_a_job_that_brings_a_picture_while_another_is_deleted_with_it_is_drawn_again(bench: Bench) -> None:
    async def meanwhile() -> None:
        server.say(server.orders[1], *pictures(server.orders[1]))
        await bench.clock.settle()

    bench.blobs = Overtaken(meanwhile)
    key = image_key(f"{0:064x}")
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        one = await bench.submit()
        await bench.blobs.put(key, b"png", "image/png")
        server.say(server.orders[0], *pictures(server.orders[0]))
        other = await bench.submit(spec=spec(prompt="another that is drawn alike"))
        await scheduler.desk.delete(one.id, TENANT)
        assert not await bench.blobs.exists(key)
        assert (await bench.now(other.id)).state is JobState.QUEUED
        assert (await bench.outcomes(other.id), (await bench.now(other.id)).counted_attempts) == (
            *([("lost", "PICTURES_SWEPT")], 0),
        )
        await bench.clock.advance(60.0)
        await bench.blobs.put(key, b"png", "image/png")
        server.say(server.orders[2], *pictures(server.orders[2]))
        assert (await bench.now(other.id)).state is JobState.SUCCEEDED


async def test_delete_stops_a_running_job_first(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        deleting = asyncio.create_task(scheduler.desk.delete(waiting.id, TENANT))
        await bench.clock.settle()
        assert server.cancelled == [(waiting.id, 1)]
        server.say(server.orders[0], STOPPED)
        await deleting
        assert await bench.store.get(waiting.id) is None


async def test_delete_of_a_job_that_does_not_stop_says_so(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        deleting = asyncio.create_task(scheduler.desk.delete(waiting.id, TENANT))
        await bench.clock.advance(9.0)
        with pytest.raises(Unavailable, match="not stopped yet"):
            await deleting


async def test_a_deadline_ends_only_what_never_began(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        deadline_at = bench.clock.now() + 10
        began, waits = await bench.submit(deadline_at=deadline_at), await bench.submit(deadline_at=deadline_at)
        await bench.clock.advance(10.0)
        assert (await bench.now(began.id)).state is JobState.RUNNING
        expired = await bench.now(waits.id)
        assert (expired.state, expired.charged_units) == (JobState.EXPIRED, 0.0)
        assert await bench.kinds(waits.id) == ["queued", "expired"]
        assert bench.limiter.delivered[-1][1]["outcome"] == "expired"
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert (await bench.now(began.id)).state is JobState.SUCCEEDED


@pytest.mark.parametrize(("drew", "state"), [(True, JobState.QUEUED), (False, JobState.EXPIRED)])
async def test_a_job_that_drew_and_was_handed_back_does_not_expire(bench: Bench, drew: bool, state: JobState) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        began = await bench.submit(deadline_at=bench.clock.now() + 10)
        lines = [Progress(1, 1, STEPS, 0.1)] if drew else []
        server.say(server.orders[0], *lines, AttemptFailed(FailureKind.DRAINING, "DRAINING", "It goes away.", 0.0))
        waits = await bench.now(began.id)
        assert (waits.state, waits.counted_attempts) == (JobState.QUEUED, 0)
        await bench.workers()
        await bench.clock.advance(10.0)
        assert (await bench.now(began.id)).state is state


async def test_a_cancel_that_only_the_store_remembers_is_kept(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await bench.workers(record(), script=silence)
        one, two = await bench.submit(), await bench.submit()
        await bench.store.request_cancel(one.id, TENANT)
        await bench.workers()
        await bench.clock.advance(RETURN_S)
        assert (await bench.now(one.id)).state is JobState.CANCELLED
        epoch = scheduler.reconciler.epoch
    await bench.store.start(Start(two.id, 1, WorkerId("w"), epoch, 1.0))
    await bench.store.request_cancel(two.id, TENANT)
    await bench.store.requeue(Requeue(two.id, 1, epoch, 2.0, "lost", "WORKER_LOST"))
    async with bench.running():
        assert (await bench.now(two.id)).state is JobState.CANCELLED


async def test_a_job_that_began_in_time_does_not_expire_when_it_waits_again(bench: Bench) -> None:
    async with bench.running():
        await bench.workers(record(), script=silence)
        began = await bench.submit(deadline_at=bench.clock.now() + 10)
        await bench.workers()
        await bench.clock.advance(20.0)
        assert (await bench.now(began.id)).state is JobState.QUEUED


async def test_old_news_of_a_running_job_changes_nothing(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        scheduler.jobs.queued(waiting)
        assert scheduler.jobs.runs(waiting.id)
        assert len(scheduler.jobs.ordering) == 0
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert (await bench.now(waiting.id)).state is JobState.SUCCEEDED


async def test_the_outbox_arrives_after_the_limiters_absence(bench: Bench) -> None:
    bench.limiter.away = True
    async with bench.running():
        await bench.workers(record())
        waiting = await bench.submit()
        assert (await bench.now(waiting.id)).state is JobState.SUCCEEDED
        assert bench.limiter.delivered == []
        assert bench.limiter.asked < 10  # it is given time to come back
    bench.limiter.away = False
    async with bench.running():
        await bench.clock.advance(10.0)
        assert [kind for kind, _ in bench.limiter.delivered] == ["confirm", "settle"]
        assert await bench.store.pending_messages(9, bench.clock.now()) == []


async def test_lost_answers_lose_and_double_nothing() -> None:
    bench = Bench(FaultyStore(MemoryStore(), ManualClock(), EveryOther("start", "end", "accept")).promised)
    jobs = [job(bench.clock.now()) for _ in range(6)]
    async with bench.running() as scheduler:
        await bench.workers(record(), record("w1"))
        for each in jobs:
            with contextlib.suppress(StoreUnavailable):
                await scheduler.desk.submit(each)
        for _ in range(20):
            await bench.clock.advance(2.0)
        for each in jobs:
            assert (await bench.now(each.id)).state is JobState.SUCCEEDED
            assert (await bench.kinds(each.id)).count("completed") == 1
        assert scheduler.jobs.running() == []
        assert len(scheduler.jobs.ordering) == 0
        settled = [p["reservation_id"] for kind, p in bench.limiter.delivered if kind == "settle"]
        assert sorted(settled) == sorted(each.id for each in jobs)
