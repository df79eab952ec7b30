"""Checkpoints through the scheduler: written down, handed on, worth an attempt, removed behind the job."""

from __future__ import annotations

import pytest

from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import checkpoint_key
from libs.clients.modelserver import AttemptDone, Order, Progress
from libs.errors import Unavailable
from libs.generation.attempt import Checkpointed
from libs.ids import JobId, WorkerId
from services.scheduler.attempts.checkpoint_sweeper import ROUND_S
from services.scheduler.attempts.checkpoints import advanced, resume_from
from services.scheduler.job import AttemptRecord, Job, JobState
from services.scheduler.retries.retry import MAX_COUNTED_ATTEMPTS
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import Deposed, StoreUnavailable
from services.scheduler.storage.wishes import Mark
from tests.unit.services.scheduler.fakes import TENANT, Bench, FakeModelServer, Line, pictures, record, silence, spec

TOTAL = 100
JOB = JobId("job_1")


def an_attempt(step: int = 0, outcome: str = "lost", reason: str = "WORKER_LOST", number: int = 1) -> AttemptRecord:
    ref = checkpoint_key(JOB, number, step) if step else ""
    return AttemptRecord(JOB, number, WorkerId("w"), 1, outcome, reason, 0.0, 1.0, 0.0, "", ref, step)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([], 0),
        ([an_attempt()], 0),
        ([an_attempt(30)], 30),
        ([an_attempt(30), an_attempt(40)], 40),
        ([an_attempt(30), an_attempt()], 30),  # it died before its own first one
        ([an_attempt(30), an_attempt(10)], 10),  # it could not go on from the older one
        ([an_attempt(30), an_attempt(), an_attempt()], 0),  # perhaps it is the checkpoint that kills them
        ([an_attempt(30), an_attempt(), an_attempt(), an_attempt(20)], 20),
        ([an_attempt(30), *[an_attempt(outcome="refused", reason="DRAINING")] * 9], 30),
        ([an_attempt(30), *[an_attempt(reason="SCHEDULER_RESTARTED")] * 9], 30),
    ],
)
def test_the_latest_checkpoint_is_handed_on_until_it_has_failed_twice(
    attempts: list[AttemptRecord], expected: int
) -> None:
    assert resume_from(attempts) == (checkpoint_key(JOB, 1, expected) if expected else "")


def test_an_attempt_advanced_only_past_all_that_was_there_before_it() -> None:
    cases = [[], [0], [10], [10, 0], [10, 10], [10, 20], [20, 10, 15]]
    assert [advanced([an_attempt(step) for step in steps]) for steps in cases] == [
        *(False, False, True, False, False, True, False)
    ]


def saved(order: Order, step: int) -> Checkpointed:
    return Checkpointed(checkpoint_key(order.job_id, order.attempt, step), step, TOTAL)


async def lose(bench: Bench, worker: FakeModelServer, *steps: int) -> Order:
    """Let the attempt that runs now announce checkpoints and be lost; return its order."""
    order = worker.orders[-1]
    lines: list[Line] = [saved(order, step) for step in steps]
    for step in steps:
        await bench.blobs.put(checkpoint_key(order.job_id, order.attempt, step), b"x", "")
    worker.lose(order, Progress(order.attempt, 1, TOTAL, 1.0), *lines)
    await bench.clock.advance(30.0)
    return order


async def left(blobs: MemoryBlobs) -> set[str]:
    return {key async for key in blobs.list_keys("checkpoints")}


async def start(bench: Bench) -> tuple[FakeModelServer, Job]:
    (worker,) = await bench.workers(record(), script=silence)
    return worker, await bench.submit(spec=spec(steps=TOTAL), estimated_units=1e6)


async def test_a_lost_attempt_is_gone_on_from_by_the_next_one_and_its_pictures_end_it() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        worker, job = await start(bench)
        first = await lose(bench, worker, 10, 20)
        second = await lose(bench, worker)  # before its own first checkpoint
        third = worker.orders[-1]
        assert [first.resume_from, second.resume_from] == ["", checkpoint_key(job.id, 1, 20)]
        assert third.resume_from == second.resume_from
        assert (await bench.now(job.id)).counted_attempts == 2  # the second counts, the third runs
        assert len(await left(bench.blobs)) == 2
        worker.say(third, *pictures(third))
        assert (await bench.now(job.id)).state is JobState.SUCCEEDED
        assert await left(bench.blobs) == set()
        assert not scheduler.prices.outcomes  # what a part of it took is no price


async def test_a_job_that_gets_on_survives_more_lost_workers_than_one_that_does_not() -> None:
    bench = Bench()
    async with bench.running():
        worker, job = await start(bench)
        for attempt in range(1, 8):
            await lose(bench, worker, attempt * 10)
        assert (await bench.now(job.id)).state is JobState.RUNNING
        for _ in range(MAX_COUNTED_ATTEMPTS):
            assert worker.orders[-1].attempt == len(worker.orders)
            await lose(bench, worker)
        job = await bench.now(job.id)
        assert (job.state, job.counted_attempts) == (JobState.FAILED, MAX_COUNTED_ATTEMPTS)
        assert [order.resume_from for order in worker.orders[-3:]] == [checkpoint_key(job.id, 7, 70)] * 2 + [""]
        assert await left(bench.blobs) == set()


async def test_a_job_that_repeats_itself_is_not_taken_for_one_that_gets_on() -> None:
    bench = Bench()
    async with bench.running():
        worker, job = await start(bench)
        for _ in range(1 + MAX_COUNTED_ATTEMPTS):
            await lose(bench, worker, 10)
        assert (await bench.now(job.id)).state is JobState.FAILED


async def test_another_scheduler_hands_on_what_the_last_one_wrote_down() -> None:
    bench = Bench()
    async with bench.running():
        worker, job = await start(bench)
        worker.say(worker.orders[-1], saved(worker.orders[-1], 10))
        await bench.clock.settle()
    worker.known.clear()  # it died too
    async with bench.running():
        await bench.clock.advance(30.0)
        assert worker.orders[-1].attempt == 2
        assert worker.orders[-1].resume_from == checkpoint_key(job.id, 1, 10)


class FaintStore(MemoryStore):
    """Cannot write checkpoints down for a while."""

    away = True
    asked = 0

    async def mark(self, mark: Mark) -> bool:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        return await super().mark(mark)


async def test_an_attempt_goes_on_when_its_checkpoints_cannot_be_written_down() -> None:
    store = FaintStore()
    bench = Bench(store)
    async with bench.running():
        worker, job = await start(bench)
        order = worker.orders[-1]
        worker.say(order, saved(order, 10), saved(order, 20))
        await bench.clock.settle()
        assert store.asked == 1  # its events do not wait for the database again at once
        await bench.clock.advance(6.0)
        store.away = False
        worker.say(order, saved(order, 30))
        await bench.clock.settle()
        assert [attempt.checkpoint_step for attempt in await store.attempts(job.id)] == [30]
        worker.say(order, *pictures(order))
        assert (await bench.now(job.id)).state is JobState.SUCCEEDED


async def test_a_leader_that_was_deposed_writes_nothing_down_and_ends() -> None:
    bench = Bench()
    with pytest.raises(ExceptionGroup) as caught:
        await mark_under_a_newer_leader(bench)
    assert caught.group_contains(Deposed)
    assert [attempt.checkpoint_ref for attempt in await bench.store.attempts(JOB)] == [""]


async def mark_under_a_newer_leader(bench: Bench) -> None:
    async with bench.running():
        (worker,) = await bench.workers(record(), script=silence)
        await bench.submit(id=JOB)
        await bench.store.take_lead("another", 0.0)
        worker.say(worker.orders[-1], saved(worker.orders[-1], 1))
        await bench.clock.settle()


class AwayBlobs(MemoryBlobs):
    """Cannot remove anything for a while."""

    away = True

    async def delete(self, key: str) -> None:
        if self.away:
            raise Unavailable("away")
        await super().delete(key)


async def test_what_could_not_be_removed_is_removed_in_the_next_round_and_others_are_left_alone() -> None:
    bench = Bench()
    bench.blobs = blobs = AwayBlobs()
    async with bench.running():
        worker, job = await start(bench)
        await lose(bench, worker, 10)
        ended, order = job, worker.orders[-1]
        worker.say(order, *pictures(order)[:-1], AttemptDone(1.0))
        assert (await bench.now(ended.id)).state is JobState.SUCCEEDED
        deleted = await bench.submit()
        worker.say(worker.orders[-1], *pictures(worker.orders[-1]))
        assert (await bench.now(deleted.id)).state is JobState.SUCCEEDED
        await bench.scheduler.desk.delete(deleted.id, TENANT)
        running = await bench.submit(spec=spec(steps=TOTAL), estimated_units=1e6)
        worker.say(worker.orders[-1], Progress(1, 1, TOTAL, 1.0))
        others = (running.id, JobId("job_of_another"))
        keys = [checkpoint_key(job_id, 1, 10) for job_id in (ended.id, deleted.id, *others)]
        for key in keys:
            await blobs.put(key, b"x", "")
        blobs.away = False
        await bench.clock.advance(ROUND_S)
        assert await left(blobs) == set(keys[2:])


async def test_the_attempts_of_a_job_without_a_checkpoint_are_not_read_behind_it() -> None:
    class Unread(MemoryStore):
        async def attempts(self, job_id: JobId) -> list[AttemptRecord]:
            raise AssertionError(f"nothing is to be swept behind {job_id}")

    bench = Bench(Unread())
    async with bench.running():
        await bench.workers(record())
        done = await bench.now((await bench.submit()).id)
        assert done.state is JobState.SUCCEEDED
