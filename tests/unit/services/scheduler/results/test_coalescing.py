"""Joiners and hits through the whole scheduler: one run, many answers, whoever goes in between."""

from __future__ import annotations

import asyncio

import pytest

from libs.clients.modelserver import AttemptFailed, Progress
from libs.generation.attempt import FailureKind
from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.scheduler.job import Job, JobState
from services.scheduler.results.keeping import DEFAULT
from services.scheduler.results.keys import Keys
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import StoreUnavailable
from tests.unit.services.scheduler.fakes import STEPS, TENANT, Bench, FakeModelServer, pictures, record, silence
from tests.unit.services.scheduler.fakes import job as new_job
from tests.unit.services.scheduler.faulty_store import EveryOther, FaultyStore

KEY = "k" * 64
OTHER = TenantId("zeta")
DONE = (JobState.SUCCEEDED, 250.0)
FREE = (JobState.SUCCEEDED, 0.0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def outcome(bench: Bench, job: Job) -> tuple[JobState, float]:
    now = await bench.now(job.id)
    return now.state, now.charged_units


def settled(bench: Bench) -> list[tuple[str, float]]:
    return [(p["reservation_id"], p["charged_units"]) for kind, p in bench.limiter.delivered if kind == "settle"]


async def a_run(bench: Bench, joiners: int = 1) -> tuple[FakeModelServer, list[Job]]:
    """Submit alike jobs on one silent worker, one after the other."""
    (server,) = await bench.workers(record(), script=silence)
    jobs = []
    for _ in range(joiners + 1):
        jobs.append(await bench.submit(cache_key=KEY))
        await bench.clock.advance(0.01)
    return server, jobs


async def test_alike_jobs_are_drawn_once_and_each_is_settled_once(bench: Bench) -> None:
    async with bench.running():
        server, jobs = await a_run(bench, joiners=2)
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert [await outcome(bench, job) for job in jobs] == [DONE, FREE, FREE]
        assert len(server.orders) == 1
        assert sorted(settled(bench)) == sorted([(jobs[0].id, 250.0), (jobs[1].id, 0.0), (jobs[2].id, 0.0)])
        hit = await bench.submit(cache_key=KEY, tenant_id=OTHER)
        assert (hit.state, hit.cache) == (JobState.SUCCEEDED, "HIT")
        await bench.clock.settle()
        assert settled(bench)[-1] == (hit.id, 0.0)
        assert len(bench.scheduler.jobs.ordering) == 0


async def test_a_joiner_sees_the_progress_of_its_run_and_its_own_events(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, (_, joiner) = await a_run(bench)
        seen = []

        async def read() -> None:
            seen.extend([event async for event in scheduler.hub.watch(joiner.id, 0)])

        task = asyncio.create_task(read())
        await bench.clock.settle()
        server.say(server.orders[0], Progress(1, STEPS, STEPS, 0.1))
        await bench.now(joiner.id)
        assert scheduler.hub.progress(joiner.id) == Progress(1, STEPS, STEPS, 0.1)
        server.say(server.orders[0], *pictures(server.orders[0]))
        await bench.now(joiner.id)
        await task
        kinds = [getattr(event, "kind", "progress") for event in seen]
        assert kinds[0] == "queued"
        assert "progress" in kinds
        assert kinds[-2:] == ["image", "completed"]
        assert scheduler.hub.progress(joiner.id) is None


async def test_a_joiner_that_goes_leaves_the_run_alone(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, (run, joiner) = await a_run(bench)
        assert (await scheduler.desk.cancel(joiner.id, TENANT)).state is JobState.CANCELLED
        assert server.cancelled == []
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert [await outcome(bench, job) for job in (run, joiner)] == [DONE, (JobState.CANCELLED, 0.0)]


async def test_a_run_whose_owners_go_one_after_the_other_stops_with_the_last(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, jobs = await a_run(bench, joiners=2)
        for job in jobs[:2]:
            assert (await scheduler.desk.cancel(job.id, TENANT)).state is JobState.CANCELLED
        assert server.cancelled == []
        assert (await bench.now(jobs[2].id)).state is JobState.RUNNING
        await scheduler.desk.cancel(jobs[2].id, TENANT)
        await bench.clock.settle()
        assert server.cancelled == [(jobs[0].id, 1)]
        server.say(server.orders[0], AttemptFailed(FailureKind.CANCELLED, "", "", 40.0))
        assert await outcome(bench, jobs[2]) == (JobState.CANCELLED, 40.0)
        assert sorted(charged for _, charged in settled(bench)) == [0.0, 0.0, 40.0]


async def test_an_heir_pays_for_the_run_and_the_others_do_not(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, jobs = await a_run(bench, joiners=2)
        await scheduler.desk.cancel(jobs[0].id, TENANT)
        await scheduler.desk.delete(jobs[0].id, TENANT)
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert [await outcome(bench, job) for job in jobs[1:]] == [DONE, FREE]
        assert len(server.orders) == 1
        assert await bench.outcomes(jobs[1].id) == [("succeeded", "")]


async def test_an_heir_whose_worker_is_lost_is_drawn_again(bench: Bench) -> None:
    async with bench.running() as scheduler:
        _, jobs = await a_run(bench, joiners=2)
        await scheduler.desk.cancel(jobs[0].id, TENANT)
        (server,) = await bench.workers(record(incarnation="b"))
        assert [await outcome(bench, job) for job in jobs[1:]] == [DONE, FREE]
        assert [(order.job_id, order.attempt) for order in server.orders] == [(jobs[1].id, 2)]


async def test_an_heirs_run_goes_on_over_restarts(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, jobs = await a_run(bench, joiners=3)
        await scheduler.desk.cancel(jobs[0].id, TENANT)
    async with bench.running() as scheduler:
        await bench.now(jobs[1].id)
        await scheduler.desk.cancel(jobs[1].id, TENANT)
    async with bench.running() as scheduler:
        server.say(server.orders[0], Progress(1, STEPS, STEPS, 0.1))
        await bench.now(jobs[2].id)
        assert scheduler.hub.progress(jobs[3].id) == Progress(1, STEPS, STEPS, 0.1)
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert [await outcome(bench, job) for job in jobs[2:]] == [DONE, FREE]
    assert len(server.orders) == 1
    assert {(order.job_id, order.attempt) for order in server.attached} == {(jobs[0].id, 1)}
    assert await bench.outcomes(jobs[2].id) == [("succeeded", "")]


async def test_an_heir_after_a_restart_is_the_last_whose_cancel_stops_the_run(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, jobs = await a_run(bench)
        await scheduler.desk.cancel(jobs[0].id, TENANT)
    async with bench.running() as scheduler:
        await bench.now(jobs[1].id)
        await scheduler.desk.cancel(jobs[1].id, TENANT)
        await bench.clock.settle()
        assert server.cancelled == [(jobs[0].id, 1)]
        server.say(server.orders[0], AttemptFailed(FailureKind.CANCELLED, "", "", 40.0))
        assert await outcome(bench, jobs[1]) == (JobState.CANCELLED, 40.0)


async def test_a_run_that_was_handed_over_is_taken_back_from_its_worker_and_settles_its_charge(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, jobs = await a_run(bench)
        await scheduler.desk.cancel(jobs[0].id, TENANT)
        await scheduler.operator_desk.drain("modelserver-0", at_once=True)
        assert server.cancelled == [(jobs[0].id, 1)]
        server.say(server.orders[0], AttemptFailed(FailureKind.CANCELLED, "", "", 40.0))
        assert (await bench.now(jobs[1].id)).state is JobState.QUEUED
        assert not scheduler.jobs.ordering._charges._open


async def test_a_run_that_fails_by_our_fault_leaves_its_joiners_their_own(bench: Bench) -> None:
    async with bench.running():
        server, jobs = await a_run(bench, joiners=2)
        for attempt in range(3):
            server.say(server.orders[attempt], AttemptFailed(FailureKind.TRANSIENT, "BROKEN", "It broke.", 9.0))
            await bench.clock.advance(60.0)
        assert (await bench.now(jobs[0].id)).state is JobState.FAILED
        assert server.orders[3].job_id == jobs[1].id
        server.say(server.orders[3], *pictures(server.orders[3]))
        assert [await outcome(bench, job) for job in jobs] == [(JobState.FAILED, 0.0), DONE, FREE]


async def ask(bench: Bench) -> Job:
    """Submit a job with the key that the fleet gives it now, and have it begin so."""
    keys = Keys(bench.scheduler.fleet, DEFAULT)
    bench.scheduler.dispatcher.key_of = keys.as_drawn
    return await bench.submit(cache_key=keys.keyed(new_job(bench.clock.now())).cache_key)


async def test_a_changed_policy_ends_hits_and_joins_of_what_was_drawn_under_another(bench: Bench) -> None:
    async with bench.running():
        await bench.workers(record(engine_build="one"))
        first = await ask(bench)
        assert await outcome(bench, first) == DONE
        assert (await ask(bench)).drawn_by == first.id
        await bench.workers(record(engine_build="other"))
        again = await ask(bench)
        assert (again.cache, await outcome(bench, again)) == ("MISS", DONE)
        assert (await ask(bench)).drawn_by == again.id


async def test_what_waited_while_the_policy_changed_is_drawn_for_those_who_ask_under_the_new_one(bench: Bench) -> None:
    async with bench.running():
        await bench.workers(record(engine_build="one", rows=0))
        waits, joins = await ask(bench), await ask(bench)
        (server,) = await bench.workers(record(incarnation="b", engine_build="other"), script=silence)
        late = await ask(bench)
        assert (joins.drawn_by, late.drawn_by) == (waits.id, waits.id)
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert [await outcome(bench, job) for job in (waits, joins, late)] == [DONE, FREE, FREE]
        await bench.workers(record(incarnation="b", engine_build="one"))
        assert (await ask(bench)).cache == "MISS"


async def test_a_waiting_run_that_is_cancelled_is_the_joiners(bench: Bench) -> None:
    async with bench.running() as scheduler:
        run, joiner = [await bench.submit(cache_key=KEY) for _ in range(2)]
        assert len(scheduler.jobs.ordering) == 1
        await scheduler.desk.cancel(run.id, TENANT)
        await bench.now(joiner.id)
        assert len(scheduler.jobs.ordering) == 1
        await bench.workers(record())
        assert await outcome(bench, joiner) == DONE


@pytest.mark.parametrize("began", [False, True])
async def test_joiners_survive_a_restart(bench: Bench, began: bool) -> None:
    async with bench.running():
        run, joiner = [await bench.submit(cache_key=KEY) for _ in range(2)]
        if began:
            await bench.workers(record(), script=silence)
    async with bench.running() as scheduler:
        assert scheduler.jobs.joined.joiners(run.id) == (joiner.id,)
        (server,) = await bench.workers(record(incarnation="b"))
        await bench.clock.advance(30.0)
        assert [await outcome(bench, job) for job in (run, joiner)] == [DONE, FREE]
        assert len(server.orders) == 1


async def test_a_joiner_whose_run_ended_unseen_is_followed_after_a_restart(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, (run, joiner) = await a_run(bench)
        scheduler.jobs.joined.next_over = lambda: None  # type: ignore[method-assign]  # it dies before it looks
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert await outcome(bench, run) == DONE
        assert (await bench.now(joiner.id)).state is JobState.QUEUED
    async with bench.running():
        assert await outcome(bench, joiner) == FREE


async def test_lost_answers_lose_and_double_nothing() -> None:
    losing = EveryOther("follow", "hand_over", "accept_reusing")
    bench = Bench(FaultyStore(MemoryStore(), ManualClock(), losing).promised)
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        jobs = []
        for _ in range(5):
            try:
                jobs.append(await bench.submit(cache_key=KEY))
            except StoreUnavailable:
                await bench.clock.advance(40.0)
        jobs = sorted(await bench.store.open_jobs(), key=lambda job: job.created_at)
        losing.next = True
        with pytest.raises(StoreUnavailable):
            await scheduler.desk.cancel(jobs[0].id, TENANT)
        await bench.clock.advance(40.0)
        for order in server.orders:
            server.say(order, *pictures(order))
        for _ in range(5):
            await bench.clock.advance(40.0)
            for order in server.orders[1:]:
                server.say(order, *pictures(order))
        assert (await bench.now(jobs[0].id)).state is JobState.CANCELLED
        for job in jobs[1:]:
            assert (await bench.now(job.id)).state is JobState.SUCCEEDED
            assert (await bench.kinds(job.id)).count("completed") == 1
        assert len({name for name, _ in settled(bench)}) == len(settled(bench)) == len(jobs)
