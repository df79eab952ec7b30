"""Parking and going on through the whole scheduler, in one event loop."""

from __future__ import annotations

import asyncio

import pytest

from libs.clients.modelserver import AttemptDone, Order, Progress, WorkerLost
from libs.errors import Unavailable
from libs.fleet.model_rows import ModelRows
from libs.generation.attempt import ImageStored
from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from services.scheduler.job import Job, JobState
from services.scheduler.placement import rounds
from services.scheduler.placement.preemption import MOST_PARKS, PARKED_S
from tests.unit.services.scheduler.fakes import MODEL, STEPS, Bench, FakeModelServer, pictures, record, silence, spec


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def begin(bench: Bench, server: FakeModelServer, tier: str, asked: GenerationSpec | None = None) -> Job:
    """Queue a job; once it is on the worker, let it draw a step."""
    job = await bench.submit(tier=tier, spec=asked or spec())
    for order in server.orders:
        if order.job_id == job.id:
            server.say(order, Progress(order.attempt, 1, STEPS, 30.0))
    await bench.clock.advance(0.1)
    return job


async def end(bench: Bench, server: FakeModelServer, job_id: JobId) -> None:
    order = order_of(server, job_id)
    picture = ImageStored(0, "0" * 64, "image/png", 128, 128, 7, 9)
    server.say(order, picture, AttemptDone(5.0))
    await bench.clock.settle()


def order_of(server: FakeModelServer, job_id: JobId) -> Order:
    return next(order for order in server.orders if order.job_id == job_id)


async def test_a_lower_tier_makes_room_and_goes_on_when_there_is_room_again(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(rows=2), script=silence)
        low = [await begin(bench, server, "free"), await begin(bench, server, "free")]
        high = await begin(bench, server, "enterprise")
        assert server.moves == [("park", low[1].id)]
        assert [order.job_id for order in server.orders] == [low[0].id, low[1].id, high.id]
        assert scheduler.fleet.given(record(rows=2)) == tuple(sorted((low[0].id, high.id)))
        later = await begin(bench, server, "free")
        await end(bench, server, high.id)
        assert server.moves == [("park", low[1].id), ("resume", low[1].id)], "before who came later"
        for job in (*low, later):
            await end(bench, server, job.id)
        assert {(await bench.now(job.id)).state for job in (*low, later, high)} == {JobState.SUCCEEDED}
        assert {(await bench.now(job.id)).attempt for job in (*low, later, high)} == {1}
        assert scheduler.fleet.given(record(rows=2)) == ()


async def test_where_much_runs_who_makes_room_is_looked_for_again_a_little_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "MANY_RUN", 1)
    monkeypatch.setattr(rounds, "PAUSE_S_PER_ATTEMPT", 1.0)
    async with bench.running():
        (server,) = await bench.workers(record(rows=2), script=silence)
        low = [await begin(bench, server, "free"), await begin(bench, server, "free")]
        for _ in range(2):
            await bench.submit(tier="enterprise")
            await bench.clock.settle()
        assert server.moves == [("park", low[1].id)]
        await bench.clock.advance(2.5)
        assert server.moves == [("park", low[1].id), ("park", low[0].id)]


@pytest.mark.parametrize(("tier", "parked"), [("enterprise", True), ("free", False)])
async def test_who_is_about_to_end_makes_room_for_a_higher_tier_that_is_given_ahead(
    bench: Bench, tier: str, parked: bool
) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(resident=record().models), script=silence)
        low = await begin(bench, server, "free")
        server.say(order_of(server, low.id), Progress(1, STEPS - 1, STEPS, 0.4))
        await bench.clock.advance(0.1)
        ahead = await begin(bench, server, tier)
        assert [order.job_id for order in server.orders] == [low.id, ahead.id]
        assert server.moves == [("park", low.id)] * parked
        await end(bench, server, ahead.id)
        assert server.moves == [("park", low.id), ("resume", low.id)] * parked
        await end(bench, server, low.id)
        assert {(await bench.now(job.id)).state for job in (low, ahead)} == {JobState.SUCCEEDED}


async def test_as_many_make_room_as_it_takes_for_a_large_job_that_is_given_ahead(bench: Bench) -> None:
    model = MODEL.pinned
    four = record(rows=4, resident=(model,), model_rows=(ModelRows(model, 0, (("128x128", 4),)),))
    async with bench.running() as scheduler:
        (server,) = await bench.workers(four, script=silence)
        low = [await begin(bench, server, "free", spec(guidance_scale=1.0)) for _ in range(4)]
        server.say(order_of(server, low[0].id), Progress(1, STEPS - 1, STEPS, 0.4))
        await bench.clock.advance(0.1)
        large = await bench.submit(tier="enterprise", spec=spec(images=4, guidance_scale=1.0))
        await bench.clock.advance(0.1)
        assert sorted(server.moves) == sorted(("park", job.id) for job in low)
        seat = scheduler.fleet.seat(four)
        assert seat is not None
        assert (seat.rows, seat.waits, seat.parked) == (4, 0, 4)
        await end(bench, server, large.id)
        assert sorted(server.moves[4:]) == sorted(("resume", job.id) for job in low)


async def test_an_equal_tier_waits(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        await begin(bench, server, "pro")
        await begin(bench, server, "pro")
        await begin(bench, server, "free")
        assert server.moves == []


async def test_who_has_not_begun_to_draw_keeps_its_row(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        await bench.submit(tier="free")
        await bench.clock.advance(1.0)
        await bench.submit(tier="enterprise")
        assert server.moves == []


async def test_a_refusal_is_asked_again_later(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        server.answers = [False]
        low = await begin(bench, server, "free")
        high = await begin(bench, server, "enterprise")
        assert (server.moves, len(server.orders)) == ([("park", low.id)], 1)
        await bench.clock.advance(1.1)
        assert server.moves == [("park", low.id)] * 2
        assert server.orders[-1].job_id == high.id


async def test_a_job_that_was_parked_too_long_goes_on_anyway_and_is_not_parked_for_ever(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        low = await begin(bench, server, "free")
        for number in range(1, MOST_PARKS + 1):
            await begin(bench, server, "enterprise")
            await bench.clock.advance(1.0)
            assert server.moves.count(("park", low.id)) == number
            await bench.clock.advance(PARKED_S)
            assert server.moves.count(("resume", low.id)) == number
            for order in server.orders[number:]:
                await end(bench, server, order.job_id)
        await begin(bench, server, "enterprise")
        assert server.moves.count(("park", low.id)) == MOST_PARKS


async def test_an_unknown_answer_brings_the_job_back(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        low = await begin(bench, server, "free")
        server.answers = [Unavailable("timed out"), Unavailable("timed out"), False]
        await begin(bench, server, "enterprise")
        for _ in range(20):
            await bench.clock.advance(0.1)
        assert server.moves == [("park", low.id), ("resume", low.id), ("resume", low.id)]
        await end(bench, server, low.id)
        assert (await bench.now(low.id)).state is JobState.SUCCEEDED


async def test_a_parked_attempt_is_lost_with_its_worker(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        low, high = await begin(bench, server, "free"), await begin(bench, server, "enterprise")
        assert server.moves == [("park", low.id)]
        await bench.workers(record(incarnation="b", rows=2), script=pictures)
        for job in (low, high):
            assert (await bench.now(job.id)).state is JobState.SUCCEEDED
            assert await bench.outcomes(job.id) == [("lost", "WORKER_LOST"), ("succeeded", "")]


async def test_a_parked_job_can_be_cancelled(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        low = await begin(bench, server, "free")
        await begin(bench, server, "enterprise")
        await scheduler.desk.cancel(low.id, low.tenant_id)
        await bench.clock.settle()
        assert server.cancelled == [(low.id, 1)]
        assert server.moves == [("park", low.id)]


async def test_a_stream_that_breaks_while_it_is_parked_leaves_nothing_behind(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        low = await begin(bench, server, "free")
        high = await begin(bench, server, "enterprise")
        server.say(order_of(server, low.id), WorkerLost("reset"))
        await bench.clock.settle()
        assert scheduler.fleet.given(record()) == (high.id,)
        await end(bench, server, high.id)
        assert scheduler.fleet.given(record()) == ()


async def test_one_row_is_asked_for_while_the_answer_is_awaited(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(rows=2), script=silence)
        await begin(bench, server, "free")
        await begin(bench, server, "free")
        answer = asyncio.Event()
        server.answers = [answer]
        await begin(bench, server, "enterprise")
        await bench.clock.advance(5.0)
        assert len(server.moves) == 1
        answer.set()
        await bench.clock.settle()
        assert len(server.orders) == 3


async def test_nobody_is_given_ahead_of_one_that_is_parked_there(bench: Bench) -> None:
    async with bench.running() as scheduler:
        warm = record(resident=record().models)
        (server,) = await bench.workers(warm, script=silence)
        low, high = await begin(bench, server, "free"), await begin(bench, server, "enterprise")
        behind = await bench.submit(tier="free")
        server.say(order_of(server, high.id), Progress(1, STEPS, STEPS, 0.1))
        await bench.clock.settle()
        assert scheduler.fleet.given(warm) == (high.id,)
        await end(bench, server, high.id)
        assert server.moves == [("park", low.id), ("resume", low.id)]
        server.say(order_of(server, low.id), Progress(1, STEPS, STEPS, 0.1))
        await bench.clock.settle()
        assert set(scheduler.fleet.given(warm)) == {low.id, behind.id}, "now it is"


@pytest.mark.parametrize("wants", ["another worker", "a worker of its own"])
async def test_nobody_makes_room_for_who_would_rather_not_come(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, wants: str
) -> None:
    async with bench.running() as scheduler:
        server, other = await bench.workers(record("a"), record("b"), script=silence)
        low, _ = await begin(bench, server, "free"), await begin(bench, other, "enterprise")
        high = await begin(bench, server, "enterprise")
        assert server.moves == [("park", low.id)]
        if wants == "another worker":
            monkeypatch.setattr(scheduler.jobs, "avoided", lambda _: frozenset({record("a").worker_id}))
        else:
            monkeypatch.setattr(scheduler.jobs, "alone", lambda _: True)
        later = await begin(bench, server, "enterprise")
        await end(bench, server, high.id)
        assert server.moves == [("park", low.id), ("resume", low.id)], "it takes no row of those that are parked"
        await bench.clock.advance(1.0)
        assert len(server.moves) == 2, "and nobody is parked for it"
        await end(bench, server, low.id)
        assert server.orders[-1].job_id == later.id, "it comes last to the worker, not never"


async def test_who_may_make_room_is_not_looked_for_while_nobody_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        await begin(bench, server, "enterprise")
        monkeypatch.setattr(scheduler.preempter, "_candidates", lambda: pytest.fail("it looked at all that run"))
        await begin(bench, server, "enterprise")
        await begin(bench, server, "free")


class Mute(FakeModelServer):
    """Loses its attempts, and answers who tells it to stop only when it is let."""

    def __init__(self) -> None:
        super().__init__(silence)
        self.let = asyncio.Event()

    async def cancel(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        await self.let.wait()
        return await super().cancel(job_id, attempt, epoch)


async def test_a_retry_makes_room_though_the_worker_that_was_lost_heard_later_that_it_is_to_stop(bench: Bench) -> None:
    lost, other = record("lost"), record("other")
    bench.servers[lost.address] = mute = Mute()
    async with bench.running():
        await bench.workers(lost)
        low = await begin(bench, mute, "free")
        _, server = await bench.workers(lost, other, script=silence)
        mute.lose(mute.orders[0])
        await bench.clock.settle()
        server.say(server.orders[0], Progress(2, 1, STEPS, 30.0))
        mute.let.set()
        await bench.clock.advance(0.1)
        assert mute.cancelled == [(low.id, 1)]
        await bench.submit(tier="enterprise")
        assert server.moves == [("park", low.id)]
