"""What happens at the same moment, and answers that are lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from libs.blobs.store import image_key
from libs.clients.modelserver import AttemptFailed, Order
from libs.errors import Unavailable
from libs.generation.attempt import FailureKind
from libs.generation.model import Model
from libs.ids import JobId, TenantId
from services.scheduler.job import Job, JobState
from services.scheduler.operators.operator_desk import OperatorDesk
from services.scheduler.placement.fleet import RETURN_S
from services.scheduler.replicas.standby_desk import StandbyDesk
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import StoreUnavailable
from tests.unit.services.scheduler.fakes import (
    MODEL,
    TENANT,
    Bench,
    FakeLimiter,
    FakeModelServer,
    Line,
    pictures,
    record,
    silence,
    spec,
)


def full(order: Order) -> list[Line]:
    return [AttemptFailed(FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY", "full", 1.0)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Deaf(MemoryStore):
    """Commits the wish to cancel and loses the answer."""

    async def request_cancel(self, job_id: JobId, tenant: TenantId, epoch: int = 0) -> Job | None:
        await super().request_cancel(job_id, tenant, epoch)
        raise StoreUnavailable("connection lost after the commit")


async def test_a_cancel_whose_answer_was_lost_reaches_the_worker() -> None:
    bench = Bench(Deaf())
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        with pytest.raises(StoreUnavailable):
            await scheduler.desk.cancel(waiting.id, TENANT)
        await bench.clock.advance(2.0)
        assert server.cancelled == [(waiting.id, 1)]
        server.say(server.orders[0], AttemptFailed(FailureKind.CANCELLED, "", "", 1.0))
        assert (await bench.now(waiting.id)).state is JobState.CANCELLED


class Quicker(MemoryStore):
    """Has an operator bring a job back just before it is deleted, once."""

    operator: OperatorDesk | None = None

    async def delete(
        self, job_id: JobId, tenant: TenantId, now: float, *, spare: bool = False
    ) -> tuple[str, ...] | None:
        operator, self.operator = self.operator, None
        if operator is not None:
            await operator.requeue(job_id)
        return await super().delete(job_id, tenant, now, spare=spare)


async def test_a_letter_that_is_brought_back_while_it_is_deleted_is_deleted_when_asked_again() -> None:
    store = Quicker()
    bench = Bench(store)
    async with bench.running() as scheduler:
        await bench.workers(record(), script=full)
        dead = await bench.now((await bench.submit()).id)
        for desk in (scheduler.desk, StandbyDesk(store, bench.clock, result_life_s=3600.0)):
            store.operator = scheduler.operator_desk
            with pytest.raises(Unavailable):
                await desk.delete(dead.id, TENANT)
            dead = await bench.now(dead.id)  # it died again
        await scheduler.desk.delete(dead.id, TENANT)
        assert await store.get(dead.id) is None


async def test_a_cancelled_job_that_never_stops_is_cancelled_and_not_failed(bench: Bench) -> None:
    class Unreached(FakeModelServer):
        async def cancel(self, job_id: JobId, attempt: int, epoch: int) -> bool:
            return False

    async with bench.running() as scheduler:
        bench.servers["modelserver-0:a"] = Unreached(silence)
        await bench.workers(record())
        waiting = await bench.submit()
        await scheduler.desk.cancel(waiting.id, TENANT)
        await bench.clock.advance(61.0)
        assert (await bench.now(waiting.id)).state is JobState.CANCELLED


async def test_a_retry_has_one_start_and_its_own_wait(bench: Bench) -> None:
    async with bench.running():
        began_at = bench.clock.now()
        await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        await bench.workers()
        await bench.clock.advance(RETURN_S)
        await bench.clock.advance(3.0)
        await bench.workers(record(incarnation="b"))
        done = await bench.now(waiting.id)
    assert (done.state, done.started_at) == (JobState.SUCCEEDED, began_at)
    assert (done.stages[0].start_s, done.stages[0].end_s) == (began_at + RETURN_S, began_at + RETURN_S + 3)


async def test_a_job_cancelled_while_it_waits_for_a_retry_has_no_time_that_runs_backwards(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        await bench.workers()
        await bench.clock.advance(RETURN_S)
        await bench.now(waiting.id)
        ended = await scheduler.desk.cancel(waiting.id, TENANT)
    assert ended.state is JobState.CANCELLED
    assert all(stage.start_s <= stage.end_s for stage in ended.stages)


async def test_a_picture_that_a_running_job_draws_again_survives_the_delete(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record())
        one = await bench.submit()
        key = image_key(f"{0:064x}")
        await bench.blobs.put(key, b"png", "image/png")
        server.script = silence
        two = await bench.submit()
        await scheduler.desk.delete(one.id, TENANT)
        server.say(server.orders[1], *pictures(server.orders[1]))
        assert (await bench.now(two.id)).state is JobState.SUCCEEDED
        assert await bench.blobs.exists(key)
        await bench.submit(spec=spec(prompt="another"))
        await scheduler.desk.delete(two.id, TENANT)
        assert await bench.store.get(two.id) is None
        await bench.now(server.orders[2].job_id)


class Exact(FakeLimiter):
    """Notes whether two messages of one job were ever on their way at once; cannot take `poison`."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: Counter[str] = Counter()
        self.most = 0
        self.poison = ""

    async def deliver(self, kind: str, payload: Mapping[str, Any]) -> None:
        job_id = payload["reservation_id"]
        if job_id == self.poison:
            raise TypeError("a field that this version does not know")
        self.under_way[job_id] += 1
        self.most = max(self.most, self.under_way[job_id])
        await asyncio.sleep(0)
        self.under_way[job_id] -= 1
        await super().deliver(kind, payload)


async def test_messages_of_one_job_arrive_one_after_the_other(bench: Bench) -> None:
    bench.limiter = limiter = Exact()
    limiter.away = True
    async with bench.running():
        await bench.workers(record())
        done = await bench.submit()
        assert (await bench.now(done.id)).state is JobState.SUCCEEDED
        limiter.away = False
        await bench.clock.advance(10.0)
    assert [kind for kind, _ in limiter.delivered] == ["confirm", "settle"]
    assert limiter.most == 1


async def test_a_message_that_cannot_be_sent_holds_up_nobody(bench: Bench) -> None:
    bench.limiter = limiter = Exact()
    async with bench.running() as scheduler:
        limiter.poison = "job_bad"
        bad, good = await bench.submit(id=JobId("job_bad")), await bench.submit()
        await bench.now(bad.id)
        assert [payload["reservation_id"] for _, payload in limiter.delivered] == [good.id]
        limiter.poison = ""
        await bench.clock.advance(61.0)
        await bench.clock.advance(6.0)
        assert [payload["reservation_id"] for _, payload in limiter.delivered] == [good.id, bad.id]
        assert scheduler.jobs.get(bad.id) is not None


class Cut(FakeModelServer):
    """Its first answer is cut off as by a channel that is closed."""

    asked = 0

    async def describe_models(self) -> list[Model]:
        self.asked += 1
        if self.asked == 1:
            raise Unavailable("closed")
        return await super().describe_models()


async def test_a_worker_whose_description_was_cut_off_is_asked_again(bench: Bench) -> None:
    async with bench.running() as scheduler:
        bench.servers["modelserver-0:a"] = Cut()
        await bench.workers(record())
        await bench.clock.advance(1.0)
        assert [model.id for model in scheduler.catalog.catalog.models] == [MODEL.id]


async def test_a_worker_that_was_forgotten_and_is_back_is_asked_again(bench: Bench) -> None:
    async with bench.running() as scheduler:
        fleet = (record(), record("w1"))
        await bench.workers(*fleet)
        await bench.workers(record("w1"))
        await bench.workers(*fleet)
        assert sorted(scheduler.catalog._described) == ["modelserver-0", "w1"]


async def test_deadlines_of_ended_jobs_are_forgotten(bench: Bench) -> None:
    async with bench.running() as scheduler:
        for _ in range(200):
            waiting = await bench.submit(deadline_at=bench.clock.now() + 7 * 86_400)
            await scheduler.desk.cancel(waiting.id, TENANT)
        assert len(scheduler.jobs._deadlines) < 100
