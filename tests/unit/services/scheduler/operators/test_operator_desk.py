"""What operators ask for takes hold: letters come back, drained workers stay empty, what they ran goes on elsewhere."""

from __future__ import annotations

import pytest

from libs import errors
from libs.clients.modelserver import AttemptFailed
from libs.generation.attempt import Checkpointed, FailureKind
from libs.ids import JobId
from services.scheduler.job import JobState
from services.scheduler.storage.store import StoreUnavailable
from tests.unit.services.scheduler.fakes import MODEL, Bench, pictures, record, silence
from tests.unit.services.scheduler.faulty_store import Failing, Fate, FaultyStore

CANCELLED = AttemptFailed(FailureKind.CANCELLED, "CANCELLED", "stopped", 20.0)


def full(order):
    return [AttemptFailed(FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY", "full", 1.0)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_requeued_letter_is_drawn_and_charged_under_a_reservation_of_its_own(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=full)
        dead = await bench.now((await bench.submit()).id)
        assert await scheduler.operator_desk.dead_letters(0) == [dead]
        server.script = pictures
        await scheduler.operator_desk.requeue(dead.id)
        done = await bench.now(dead.id)
        assert (done.state, done.attempt, done.charged_units) == (JobState.SUCCEEDED, 4, 250.0)
        assert [(kind, p["reservation_id"]) for kind, p in bench.limiter.delivered] == [
            ("confirm", dead.id),
            ("settle", dead.id),
            ("confirm", f"{dead.id}.1"),
            ("settle", f"{dead.id}.1"),
        ]
        assert await scheduler.operator_desk.dead_letters(0) == []


async def test_a_requeued_letter_has_all_its_attempts_again(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=full)
        dead = await bench.now((await bench.submit()).id)
        await scheduler.operator_desk.requeue(dead.id)
        again = await bench.now(dead.id)
        assert (len(server.orders), again.dead_at is not None, again.revivals) == (6, True, 1)


async def test_a_letter_whose_commit_lands_long_after_it_was_given_up_is_drawn(bench: Bench) -> None:
    def plan(method: str) -> Fate:
        return Fate(Failing.LATE, after_s=3.0) if method == "alter" else Fate()

    bench.store = FaultyStore(bench.store, bench.clock, plan).promised
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=full)
        dead = await bench.now((await bench.submit()).id)
        server.script = pictures
        with pytest.raises(StoreUnavailable):
            await scheduler.operator_desk.requeue(dead.id)
        await bench.clock.advance(10.0)
        assert (await bench.now(dead.id)).state is JobState.SUCCEEDED


async def test_what_is_no_letter_is_not_found(bench: Bench) -> None:
    async with bench.running() as scheduler:
        waiting = await bench.submit()
        for job_id in (waiting.id, JobId("job_unknown")):
            with pytest.raises(errors.NotFound, match="no dead letter"):
                await scheduler.operator_desk.requeue(job_id)
            with pytest.raises(errors.NotFound, match="no dead letter"):
                await scheduler.operator_desk.drop(job_id)


async def test_a_dropped_letter_is_off_the_list_and_still_failed(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await bench.workers(record(), script=full)
        dead = await bench.now((await bench.submit()).id)
        await scheduler.operator_desk.drop(dead.id)
        assert await scheduler.operator_desk.dead_letters(0) == []
        assert (await bench.now(dead.id)).state is JobState.FAILED


async def test_a_drained_worker_finishes_what_it_has_and_gets_nothing_new_after_a_restart_too(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(), script=silence)
        first = await bench.submit()
        assert await scheduler.operator_desk.drain("modelserver-0", at_once=False) == (first.id,)
        second = await bench.submit()
        server.say(server.orders[0], *pictures(server.orders[0]))
        assert (await bench.now(first.id)).state is JobState.SUCCEEDED
        assert (await bench.now(second.id)).state is JobState.QUEUED
    async with bench.running() as scheduler:
        server.script = pictures
        assert (await bench.now(second.id)).state is JobState.QUEUED
        await scheduler.operator_desk.undrain("modelserver-0")
        assert (await bench.now(second.id)).state is JobState.SUCCEEDED
        with pytest.raises(errors.NotFound, match="not drained"):
            await scheduler.operator_desk.undrain("modelserver-0")


async def test_what_is_taken_back_goes_on_elsewhere_from_its_checkpoint_uncounted(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (leaving,) = await bench.workers(record("a"), script=silence)
        job = await bench.submit()
        leaving.say(leaving.orders[0], Checkpointed("checkpoints/here", 2, 3))
        await bench.now(job.id)
        assert await scheduler.operator_desk.drain("a", at_once=True) == (job.id,)
        assert leaving.cancelled == [(job.id, 1)]
        leaving.say(leaving.orders[0], CANCELLED)
        waiting = await bench.now(job.id)
        assert (waiting.state, waiting.counted_attempts) == (JobState.QUEUED, 0)
        assert await bench.outcomes(job.id) == [("refused", "WORKER_DRAINING")]
        _, other = await bench.workers(record("a"), record("b"))
        assert (await bench.now(job.id)).state is JobState.SUCCEEDED
        assert [order.resume_from for order in other.orders] == ["checkpoints/here"]


async def test_a_worker_that_is_away_can_be_drained_before_it_comes(bench: Bench) -> None:
    async with bench.running() as scheduler:
        assert await scheduler.operator_desk.drain("modelserver-0", at_once=True) == ()
        job = await bench.submit()
        await bench.workers(record())
        assert (await bench.now(job.id)).state is JobState.QUEUED


async def test_only_what_a_worker_can_run_is_pinned_to_it(bench: Bench) -> None:
    async with bench.running() as scheduler:
        desk = scheduler.operator_desk
        await bench.workers(record())
        assert await desk.pin("shapes", "modelserver-0") == MODEL.pinned
        assert desk.operations.pins == {"modelserver-0": {MODEL.pinned}}
        with pytest.raises(errors.NotFound, match=r"no worker 'other'\. Alive: modelserver-0"):
            await desk.pin("shapes", "other")
        with pytest.raises(errors.NotFound, match="which holds shapes@v1"):
            await desk.unpin("large", "modelserver-0")
        assert await desk.unpin("shapes", "modelserver-0") == MODEL.pinned
        assert not desk.operations.pins
        with pytest.raises(errors.InvalidRequest, match="Name the worker"):
            await desk.drain("", at_once=False)
