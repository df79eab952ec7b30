"""What a standby accepts is answered, or joins a run, as on the leader."""

from __future__ import annotations

import pytest

from services.scheduler.job import Job, JobState
from services.scheduler.replicas.standby_desk import StandbyDesk
from tests.unit.services.scheduler.fakes import Bench, FakeModelServer, job, pictures, record, silence

KEY = "k" * 64


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def submit(bench: Bench) -> Job:
    standby = StandbyDesk(bench.store, bench.clock, result_life_s=3600.0)
    return (await standby.submit(job(bench.clock.now(), cache_key=KEY))).job


async def drawn(bench: Bench) -> tuple[FakeModelServer, Job]:
    (server,) = await bench.workers(record(), script=silence)
    run = await bench.submit(cache_key=KEY)
    await bench.clock.advance(0.01)
    return server, run


async def states(bench: Bench, *jobs: Job) -> list[tuple[JobState, float]]:
    now = [await bench.now(each.id) for each in jobs]
    return [(each.state, each.charged_units) for each in now]


async def test_it_finds_pictures_and_the_leader_settles(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, run = await drawn(bench)
        server.say(server.orders[0], *pictures(server.orders[0]))
        await bench.now(run.id)
        hit = await submit(bench)
        assert (hit.state, hit.cache, hit.images) == (JobState.SUCCEEDED, "HIT", (await bench.now(run.id)).images)
        assert await scheduler.handover.look()
        await bench.clock.settle()
        assert ("settle", hit.id) in [(kind, said["reservation_id"]) for kind, said in bench.limiter.delivered]
        assert len(server.orders) == 1


async def test_it_joins_a_run(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, run = await drawn(bench)
        joiner = await submit(bench)
        assert joiner.drawn_by == run.id
        assert await scheduler.handover.look()
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert await states(bench, run, joiner) == [(JobState.SUCCEEDED, 250.0), (JobState.SUCCEEDED, 0.0)]
        assert len(server.orders) == 1


async def test_a_run_that_ended_before_the_leader_heard_of_its_joiner_is_over_for_both(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, run = await drawn(bench)
        joiner = await submit(bench)
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert (await bench.now(run.id)).state is JobState.SUCCEEDED
        assert await scheduler.handover.look()
        assert await states(bench, joiner) == [(JobState.SUCCEEDED, 0.0)]
        assert len(server.orders) == 1
