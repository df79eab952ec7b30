"""Attempts outlive a broken stream and their scheduler; no device does anything twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from libs.clients.modelserver import AttemptEvent, AttemptFailed, Order, Progress, WorkerLost, WorkerRefused
from libs.generation.attempt import FailureKind
from services.scheduler.attempts.listening import PATIENCE_S
from services.scheduler.job import Job, JobState
from services.scheduler.placement.fleet import RETURN_S
from tests.unit.services.scheduler.fakes import STEPS, TENANT, Bench, FakeModelServer, pictures, record, silence

UNREACHED = WorkerRefused("cannot be reached", reason="UNAVAILABLE")


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def begin(bench: Bench) -> tuple[FakeModelServer, Job]:
    (server,) = await bench.workers(record(), script=silence)
    job = await bench.submit()
    server.say(server.orders[-1], Progress(1, 1, STEPS, 0.1))
    await bench.clock.settle()
    return server, job


async def test_a_restarted_scheduler_follows_what_runs_and_nothing_is_drawn_again(bench: Bench) -> None:
    async with bench.running():
        server, ran = await begin(bench)
        waited = await bench.submit()
    async with bench.running() as scheduler:
        await bench.clock.advance(30.0)
        assert [job.id for job in scheduler.jobs.running()] == [ran.id]
        assert (await bench.now(waited.id)).state is JobState.QUEUED  # its place is taken
        assert server.attached[0].epoch > server.orders[0].epoch
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert (await bench.now(ran.id)).state is JobState.SUCCEEDED
        assert [order.job_id for order in server.orders] == [ran.id, waited.id]
    assert await bench.outcomes(ran.id) == [("succeeded", "")]
    assert await bench.kinds(ran.id) == ["queued", "started", "image", "completed"]


async def test_a_worker_that_forgot_an_attempt_over_a_restart_costs_the_job_no_attempt(bench: Bench) -> None:
    async with bench.running():
        server, ran = await begin(bench)
    server.known.clear()
    server.script = pictures
    async with bench.running():
        done = await bench.now(ran.id)
        assert (done.state, done.counted_attempts) == (JobState.SUCCEEDED, 1)
        assert await bench.outcomes(ran.id) == [("lost", "SCHEDULER_RESTARTED"), ("succeeded", "")]


async def test_a_worker_that_does_not_come_back_has_lost_its_attempt_after_a_while(bench: Bench) -> None:
    async with bench.running():
        _, ran = await begin(bench)
    await bench.workers()
    async with bench.running():
        await bench.clock.advance(9.9)
        assert (await bench.now(ran.id)).state is JobState.RUNNING
        await bench.clock.advance(0.1)
        assert (await bench.now(ran.id)).state is JobState.QUEUED
        assert await bench.outcomes(ran.id) == [("lost", "SCHEDULER_RESTARTED")]


async def test_a_fleet_that_is_gone_for_a_moment_goes_on_with_what_it_drew(bench: Bench) -> None:
    async with bench.running():
        server, ran = await begin(bench)
        await bench.workers()
        await bench.clock.advance(RETURN_S - 0.1)
        await bench.workers(record(rows_in_use=1))
        await bench.clock.advance(2 * RETURN_S)
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert (await bench.now(ran.id)).state is JobState.SUCCEEDED
    assert await bench.outcomes(ran.id) == [("succeeded", "")]
    assert not server.attached


async def test_a_worker_that_stays_away_has_lost_its_attempt(bench: Bench) -> None:
    async with bench.running():
        _, ran = await begin(bench)
        for away_s in (RETURN_S - 0.1, RETURN_S):  # each time anew
            assert await bench.outcomes(ran.id) == [("running", "")]
            await bench.workers()
            await bench.clock.advance(away_s)
            await bench.workers(record())
        assert await bench.outcomes(ran.id) == [("lost", "WORKER_LOST")]


async def test_a_wish_to_cancel_outlives_the_scheduler(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server, ran = await begin(bench)
        await scheduler.desk.cancel(ran.id, TENANT)
    async with bench.running():
        await bench.clock.settle()
        assert server.cancelled == [(ran.id, 1)] * 2
        server.say(server.orders[0], AttemptFailed(FailureKind.CANCELLED, "", "", 1.0))
        assert (await bench.now(ran.id)).state is JobState.CANCELLED


async def test_a_broken_stream_is_taken_up_again_and_costs_nothing(bench: Bench) -> None:
    async with bench.running():
        server, job = await begin(bench)
        for _ in range(3):
            server.say(server.orders[0], Progress(1, 2, STEPS, 0.1), WorkerLost("reset"))
            await bench.clock.advance(PATIENCE_S)
        assert (await bench.now(job.id)).state is JobState.RUNNING
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert (await bench.now(job.id)).state is JobState.SUCCEEDED
        assert [stage.name for stage in (await bench.now(job.id)).stages] == ["queue", "denoise"]
        assert (len(server.orders), len(server.attached)) == (1, 3)


async def test_a_worker_that_cannot_be_reached_again_has_lost_the_attempt_after_seconds(bench: Bench) -> None:
    async with bench.running():
        server, job = await begin(bench)
        server.say(server.orders[0], WorkerLost("reset"), *[UNREACHED] * 40)
        await bench.clock.advance(PATIENCE_S - 0.1)
        assert (await bench.now(job.id)).state is JobState.RUNNING
        await bench.clock.advance(2.0)
        assert await bench.outcomes(job.id) == [("lost", "WORKER_LOST")]
        assert server.cancelled == [(job.id, 1)]


async def test_waiting_for_an_answer_is_no_sign_of_life(bench: Bench) -> None:
    class Silent(FakeModelServer):
        async def execute(self, order: Order) -> AsyncGenerator[AttemptEvent, None]:
            if order.attach:
                await bench.clock.sleep(PATIENCE_S)
                raise UNREACHED
            async for event in super().execute(order):
                yield event

    async with bench.running():
        bench.servers["modelserver-0:a"] = Silent(silence)
        server, job = await begin(bench)
        server.say(server.orders[0], WorkerLost("reset"))
        await bench.clock.advance(PATIENCE_S)
        assert await bench.outcomes(job.id) == [("lost", "WORKER_LOST")]


async def test_nothing_new_goes_to_a_suspect_worker(bench: Bench) -> None:
    async with bench.running():
        suspect, other = await bench.workers(record("a", rows=2), record("b"), script=silence)
        await bench.submit()
        suspect.say(suspect.orders[0], WorkerLost("reset"), UNREACHED)
        await bench.clock.settle()
        await bench.submit()
        await bench.clock.settle()
        assert (len(suspect.orders), len(other.orders)) == (1, 1)
