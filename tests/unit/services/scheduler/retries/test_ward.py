"""A worker that fails everything gets nothing for a while, costs no job an attempt, and is tried again with one job."""

from __future__ import annotations

import pytest

from libs.clients.modelserver import AttemptFailed
from libs.generation.attempt import FailureKind
from services.scheduler.job import JobState
from services.scheduler.retries.quarantine import FAILURES, REST_S
from tests.unit.services.scheduler.fakes import Bench, FakeModelServer, pictures, record, silence

BROKEN = record("a", rows=8)
GOOD = record("b", rows=8)


def broken(order):
    return [AttemptFailed(FailureKind.TRANSIENT, "GENERATION_FAILED", "NaN", 1.0)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def break_down(bench: Bench) -> FakeModelServer:
    """Have the broken worker fail until it is kept apart, while the other one is drained."""
    server = bench.server(BROKEN.address)
    server.script = broken
    await bench.scheduler.operator_desk.drain("b", at_once=False)
    await bench.workers(BROKEN, GOOD)
    for _ in range(FAILURES):
        await bench.submit()
    return server


async def test_it_is_kept_apart_and_its_last_failure_costs_no_attempt(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server = await break_down(bench)
        assert len(server.orders) == FAILURES
        assert scheduler.ward.until(BROKEN) == bench.clock.now() + REST_S
        jobs = [await bench.now(order.job_id) for order in server.orders]
        assert sorted(job.counted_attempts for job in jobs) == [0, 1, 1]
        await scheduler.operator_desk.undrain("b")
        await bench.clock.advance(10.0)
        assert {(await bench.now(job.id)).state for job in jobs} == {JobState.SUCCEEDED}
        assert len(server.orders) == FAILURES


async def test_then_it_gets_one_job_and_with_it_all_again(bench: Bench) -> None:
    async with bench.running() as scheduler:
        server = await break_down(bench)
        server.script = silence
        await bench.clock.advance(REST_S)
        assert len(server.orders) == FAILURES + 1
        server.script = pictures
        server.say(server.orders[-1], *pictures(server.orders[-1]))
        await bench.clock.advance(1.0)
        assert {(await bench.now(order.job_id)).state for order in server.orders} == {JobState.SUCCEEDED}
        assert scheduler.ward.until(BROKEN) is None


async def test_a_restarted_scheduler_keeps_it_apart(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await break_down(bench)
        until = scheduler.ward.until(BROKEN)
    async with bench.running() as scheduler:
        assert until is not None
        assert scheduler.ward.until(BROKEN) == until
        server = bench.server(BROKEN.address)
        await bench.submit()
        assert len(server.orders) == FAILURES


async def test_a_restarted_worker_is_used_at_once(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await break_down(bench)
        again = record("a", "another", rows=8)
        (server, _) = await bench.workers(again, GOOD)
        await bench.clock.advance(10.0)
        assert {(await bench.now(order.job_id)).state for order in server.orders} == {JobState.SUCCEEDED}
        assert scheduler.ward.until(again) is None


async def test_bad_jobs_end_as_dead_letters_and_leave_the_fleet_in_use(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await bench.workers(BROKEN, GOOD, script=broken)
        jobs = [await bench.submit() for _ in range(FAILURES + 1)]
        for _ in range(9):
            await bench.clock.advance(5.0)
        assert [letter.id for letter in await bench.store.dead_letters(9)]
        assert {(await bench.now(job.id)).state for job in jobs} == {JobState.FAILED}
        assert [scheduler.ward.until(worker) for worker in (BROKEN, GOOD)] == [None, None]
