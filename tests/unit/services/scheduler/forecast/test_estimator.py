"""What a waiting job is told, from the running scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from libs.clients.modelserver import AttemptDone, Progress
from libs.ids import JobId, TenantId, WorkerId
from services.scheduler.forecast import estimator as module
from services.scheduler.forecast import forecaster
from services.scheduler.job import JobState
from tests.unit.services.scheduler.fakes import MODEL, Bench, job, pictures, record, silence

WARM: dict[str, Any] = {"resident": (MODEL.pinned,)}


async def test_a_job_behind_a_running_one_waits_for_what_is_left_of_it() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(**WARM), script=silence)
        running = await bench.submit(estimated_units=8000.0)
        second = await bench.submit(estimated_units=1000.0)
        third = await bench.submit()
        server.say(server.orders[0], Progress(1, 1, 2, 4.0))
        await bench.clock.settle()
        told = scheduler.estimator.of_job(second)
        assert (told.position, told.wait_p50_s, told.feasible) == (1, 4.0, True)
        assert told.wait_p90_s > told.wait_p50_s
        assert not told.starts_after_load
        told = scheduler.estimator.of_job(third)
        assert (told.position, told.wait_p50_s) == (2, 5.0)
        assert scheduler.estimator.of_job(running) is None


async def test_the_outlook_keeps_places_true_while_jobs_leave() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(**WARM), script=silence)
        await bench.submit(estimated_units=8000.0)
        others = [await bench.submit(estimated_units=1000.0) for _ in range(3)]
        await bench.clock.advance(3.0)
        told = [scheduler.estimator.of_job(each) for each in others]
        assert [each.position for each in told] == [1, 2, 3]
        assert told[0].as_of > others[0].created_at
        await scheduler.desk.cancel(others[0].id, others[0].tenant_id)
        assert [each.position for each in map(scheduler.estimator.of_job, others[1:])] == [1, 2]
        server.say(server.orders[0], *pictures(server.orders[0]))
        await bench.clock.settle()
        assert scheduler.estimator.of_job(others[1]) is None
        assert scheduler.estimator.of_job(others[2]).position == 1


async def test_who_would_come_now_is_told_the_same_without_changing_anything() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(**WARM), script=silence)
        assert scheduler.estimator.of_new("pro", MODEL.pinned).wait_p50_s == 0.0
        await bench.submit(estimated_units=8000.0)
        told = scheduler.estimator.of_new("pro", MODEL.pinned, 500.0)
        assert (told.position, told.wait_p50_s) == (1, 8.0)
        assert len(scheduler.jobs.ordering) == 0


async def test_a_load_that_comes_first_is_said() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(), script=silence)
        assert scheduler.estimator.of_new("pro", MODEL.pinned).starts_after_load


async def test_what_no_worker_can_run_is_said_with_its_reason() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(models=("other@v1",)))
        waiting = await bench.submit()
        told = scheduler.estimator.of_job(waiting)
        assert not told.feasible
        assert told.reason == "no worker that is alive can use its model"
        await bench.workers(record(draining=True))
        assert scheduler.estimator.of_job(waiting).reason == "every worker with its model is draining"


async def test_a_long_queue_is_estimated_by_the_work_before_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORT_QUEUE", 2)
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(**WARM), script=silence)
        await bench.submit()
        for _ in range(9):
            last = await bench.submit(estimated_units=1000.0)
        told = scheduler.estimator.of_job(last)
        assert (told.position, told.wait_p50_s) == (9, pytest.approx(8.0, abs=1.0))


async def test_beyond_its_cap_the_outlook_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHORT_QUEUE", 0)
    monkeypatch.setattr(forecaster, "MOST_DISPATCHES", 25)
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(**WARM), script=silence)
        waiting = [await bench.submit(estimated_units=1000.0) for _ in range(41)][1:]
        await bench.clock.advance(2.0)
        outlook = scheduler.forecaster.outlook
        assert len(outlook.starts) == 25
        assert outlook.horizon is not None
        told = scheduler.estimator.of_job(waiting[-1])
        assert (told.position, told.wait_p50_s) == (40, pytest.approx(39.0, abs=2.0))
        monkeypatch.setattr(forecaster, "LONGEST_QUEUE", 10)
        await bench.submit()
        await bench.clock.advance(2.0)
        assert not scheduler.forecaster.outlook.starts
        assert scheduler.estimator.of_job(waiting[-1]).position == 40


async def test_an_outlook_that_fails_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(**WARM), script=silence)
        with monkeypatch.context() as broken:
            broken.setattr(scheduler.forecaster, "simulation", lambda: 1 / 0)
            await bench.submit()
            await bench.clock.advance(2.0)
        waiting = await bench.submit()
        await bench.clock.advance(2.0)
        assert scheduler.forecaster.outlook.start(waiting.id) is not None


async def test_what_a_job_was_told_first_is_compared_with_what_came() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(**WARM), script=silence)
        await bench.submit(estimated_units=8000.0)
        scheduler.estimator.of_job(await bench.submit(tenant_id=TenantId("b")))
        await bench.clock.advance(9.0)
        server.say(server.orders[0], *pictures(server.orders[0])[:-1], AttemptDone(9000.0))
        await bench.clock.settle()
        assert scheduler.forecaster.promises.coverage("pro") == 1.0


async def test_demand_follows_jobs_from_the_queue_to_their_end() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.submit(estimated_units=3000.0)
        found = scheduler.forecaster.demand().of("shapes")
        assert (found.jobs, found.gpu_s, found.running) == (1, 3.0, 0)
        (server,) = await bench.workers(record(**WARM), script=silence)
        found = scheduler.forecaster.demand().of("shapes")
        assert (found.jobs, found.gpu_s, found.running) == (0, 0.0, 1)
        server.say(server.orders[0], *pictures(server.orders[0]))
        await bench.clock.settle()
        assert scheduler.forecaster.demand().of("shapes").running == 0


async def test_runs_of_an_earlier_leader_and_runs_that_joiners_take_over_count() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(**WARM), script=silence)
        running = job(bench.clock.now()).evolve(state=JobState.RUNNING, attempt=1, worker=WorkerId("modelserver-0"))
        scheduler.jobs.taken_up(running)
        assert scheduler.forecaster.demand().of("shapes").running == 1
        heir = running.evolve(id=JobId("job_heir"))
        assert scheduler.jobs.handed_over(running.evolve(state=JobState.CANCELLED), heir)
        assert scheduler.forecaster.demand().of("shapes").running == 1
        scheduler.jobs.gone(heir.id)
        assert scheduler.forecaster.demand().of("shapes").running == 0
