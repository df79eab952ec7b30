"""A job's way through the scheduler, with everything in one event loop."""

from __future__ import annotations

import pytest

from libs.clients.modelserver import (
    AttemptDone,
    AttemptEvent,
    AttemptFailed,
    Order,
    Progress,
    WorkerRefused,
)
from libs.errors import PreconditionFailed
from libs.generation.attempt import FailureKind, ImageStored
from services.scheduler.job import DurableEvent, Job, JobState
from services.scheduler.storage.store import Deposed
from tests.unit.services.scheduler.fakes import STEPS, Bench, Script, pictures, record, silence, spec

FINAL = {"completed", "failed", "cancelled", "expired"}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def reason(job: Job) -> str:
    assert job.failure is not None
    return job.failure.reason


def failing(kind: FailureKind, gpu_ms: float = 10.0) -> Script:
    return lambda order: [AttemptFailed(kind, "", "it broke", gpu_ms)]


async def test_the_good_case_tells_everything_in_order(bench: Bench) -> None:
    async with bench.running() as scheduler:
        waiting = await bench.submit(spec=spec(images=2))
        watch = scheduler.hub.watch(waiting.id, 0)
        heard = [await anext(watch)]
        (server,) = await bench.workers(record())
        heard += [item async for item in watch]
        done = await bench.now(waiting.id)
    kinds = [item.kind if isinstance(item, DurableEvent) else f"step {item.step}" for item in heard]
    assert kinds == ["queued", "started", "step 1", f"step {STEPS}", "image", "image", "completed"]
    assert (done.state, done.attempt, done.worker) == (JobState.SUCCEEDED, 1, "modelserver-0")
    assert [stage.name for stage in done.stages] == ["queue", "denoise"]
    assert [image.seed for image in done.images] == [7, 8]
    assert (done.actual_units, done.charged_units) == (250.0, 250.0)
    assert done.expires_at == bench.clock.now() + 24 * 3600
    assert server.orders[0].model_version == "shapes@v1"
    assert [(kind, p["reservation_id"]) for kind, p in bench.limiter.delivered] == [
        ("confirm", waiting.id),
        ("settle", waiting.id),
    ]
    settle = bench.limiter.delivered[1][1]
    assert (settle["outcome"], settle["charged_units"], settle["images"]) == ("succeeded", 250.0, 2)


async def test_a_worker_gone_from_the_fleet_loses_its_attempt_and_the_next_one_succeeds(bench: Bench) -> None:
    async with bench.running():
        (first,) = await bench.workers(record(), script=silence)
        waiting = await bench.submit()
        first.say(first.orders[0], Progress(1, 1, STEPS, 0.1))
        await bench.workers(record(incarnation="b"))
        done = await bench.now(waiting.id)
        assert done.state is JobState.SUCCEEDED
        assert await bench.outcomes(waiting.id) == [("lost", "WORKER_LOST"), ("succeeded", "")]
        assert await bench.kinds(waiting.id) == ["queued", "started", "queued", "started", "image", "completed"]
        for line in pictures(first.orders[0]):  # the zombie comes back with its pictures
            first.say(first.orders[0], line)
        assert await bench.now(waiting.id) == done
        assert sum(kind in FINAL for kind in await bench.kinds(waiting.id)) == 1
        assert first.cancelled == [(waiting.id, 1)]


async def test_a_broken_stream_prefers_another_worker(bench: Bench) -> None:
    async with bench.running():
        broken, good = await bench.workers(record("a"), record("b"), script=silence)
        waiting = await bench.submit()
        good.script = pictures
        broken.lose(broken.orders[0])
        assert (await bench.now(waiting.id)).worker == "b"


async def test_a_job_that_kills_its_workers_is_dead_after_three(bench: Bench) -> None:
    async with bench.running():
        waiting = await bench.submit()
        for incarnation in "abcd":
            await bench.workers(record(incarnation=incarnation), script=silence)
        dead = await bench.now(waiting.id)
    assert (dead.state, reason(dead), dead.charged_units) == (JobState.FAILED, "WORKER_LOST", 0.0)
    assert await bench.outcomes(waiting.id) == [("lost", "WORKER_LOST")] * 2 + [("failed", "WORKER_LOST")]
    assert [bench.server(f"modelserver-0:{i}").orders != [] for i in "abcd"] == [True, True, True, False]
    assert (await bench.kinds(waiting.id))[-1] == "failed"


async def test_refusals_are_not_counted_and_the_worker_rests(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=lambda order: [WorkerRefused("busy")])
        waiting = await bench.submit()
        for _ in range(5):
            await bench.clock.advance(1.0)
        refused = await bench.now(waiting.id)
        assert (refused.state, refused.counted_attempts) == (JobState.QUEUED, 0)
        assert len(server.orders) == 6  # one a second
        server.script = failing(FailureKind.DRAINING)
        await bench.clock.advance(1.0)
        server.script = pictures
        await bench.clock.advance(1.0)
        assert (await bench.now(waiting.id)).state is JobState.SUCCEEDED
        assert {outcome for outcome, _ in await bench.outcomes(waiting.id)} == {"refused", "succeeded"}


async def test_invalid_fails_at_once_and_is_not_charged(bench: Bench) -> None:
    async with bench.running():
        await bench.workers(record(), script=failing(FailureKind.INVALID, gpu_ms=99.0))
        waiting = await bench.submit()
        failed = await bench.now(waiting.id)
        assert (failed.state, reason(failed)) == (JobState.FAILED, "INVALID_REQUEST")
        assert (failed.actual_units, failed.charged_units) == (99.0, 0.0)


async def test_pictures_that_are_withheld_fail_the_job_once_and_the_others_are_listed_and_charged(bench: Bench) -> None:
    def one_of_two(order: Order) -> list[AttemptEvent]:
        shown = [event for event in pictures(order) if isinstance(event, ImageStored)][:1]
        return [*shown, AttemptFailed(FailureKind.BLOCKED, "SAFETY_OUTPUT_BLOCKED", "One is withheld.", 120.0)]

    async with bench.running():
        (server,) = await bench.workers(record(), script=one_of_two)
        failed = await bench.now((await bench.submit(spec=spec(images=2))).id)
        assert (failed.state, reason(failed), len(server.orders)) == (JobState.FAILED, "SAFETY_OUTPUT_BLOCKED", 1)
        assert [image.index for image in failed.images] == [0]
        assert failed.expires_at == bench.clock.now() + 24 * 3600
        assert (failed.charged_units, failed.failure.metadata) == (120.0, {"charged": "true"})
        assert await bench.kinds(failed.id) == ["queued", "started", "image", "failed"]
        server.script = lambda order: [AttemptFailed(FailureKind.BLOCKED, "SAFETY_PROMPT_BLOCKED", "Not here.")]
        refused = await bench.now((await bench.submit()).id)
        assert (refused.charged_units, refused.expires_at) == (0.0, None)
        assert refused.failure.metadata == {"charged": "false"}


async def test_memory_is_tried_twice_more(bench: Bench) -> None:
    async with bench.running():
        script = lambda order: [AttemptFailed(FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY", "full", 1.0)]  # noqa: E731
        (server,) = await bench.workers(record(), script=script)
        failed = await bench.now((await bench.submit()).id)
        assert (reason(failed), len(server.orders)) == ("GPU_OUT_OF_MEMORY", 3)
        assert failed.dead_at == bench.clock.now()
        assert await bench.store.dead_letters(9) == [failed]


async def test_the_finished_pictures_of_a_job_that_fails_for_good_are_listed_and_charged(bench: Bench) -> None:
    def one_is_torn(order):
        return [
            pictures(order)[-1 - order.spec.images],
            AttemptFailed(FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY", "full", 200.0),
        ]

    async with bench.running():
        await bench.workers(record(), script=one_is_torn)
        failed = await bench.now((await bench.submit(spec=spec(images=4))).id)
        assert reason(failed) == "GPU_OUT_OF_MEMORY"
        assert failed.dead_at is not None
        assert [image.index for image in failed.images] == [0]
        assert (failed.actual_units, failed.charged_units) == (200.0, 50.0)
        assert failed.failure.metadata["charged"] == "true"
        assert "Nothing was charged" not in failed.failure.message
        assert "The 1 of 4 pictures" in failed.failure.message
        assert failed.expires_at is not None
        assert (await bench.kinds(failed.id))[-2:] == ["image", "failed"]


async def test_a_passing_fault_is_tried_again_later(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=failing(FailureKind.TRANSIENT))
        waiting = await bench.submit()
        assert (await bench.now(waiting.id)).state is JobState.QUEUED
        server.script = pictures
        await bench.clock.advance(2.0)
        assert (await bench.now(waiting.id)).state is JobState.SUCCEEDED


async def test_done_without_all_pictures_is_not_believed(bench: Bench) -> None:
    async with bench.running():
        await bench.workers(record(), script=lambda order: [AttemptDone(1.0)])
        waiting = await bench.submit()
        assert (await bench.outcomes(waiting.id))[0] == ("lost", "GENERATION_FAILED")


async def test_too_long_is_stopped_and_not_charged(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        waiting = await bench.submit(estimated_units=4_000.0)
        await bench.clock.advance(500.0)  # its model is loaded
        server.say(server.orders[0], Progress(1, 1, STEPS, 0.1))
        await bench.clock.advance(0.0)
        await bench.clock.advance(79.0)
        assert (await bench.now(waiting.id)).state is JobState.RUNNING
        await bench.clock.advance(1.0)
        failed = await bench.now(waiting.id)
        assert (failed.state, reason(failed)) == (JobState.FAILED, "GENERATION_TIMEOUT")
        assert (failed.charged_units, server.cancelled) == (0.0, [(waiting.id, 1)])


async def test_what_does_not_begin_is_stopped_and_tried_elsewhere(bench: Bench) -> None:
    async with bench.running():
        stuck, good = await bench.workers(record("a"), record("b"), script=silence)
        good.script = pictures
        waiting = await bench.submit(estimated_units=4_000.0)
        await bench.clock.advance(899.0)
        assert (await bench.now(waiting.id)).state is JobState.RUNNING
        await bench.clock.advance(1.0)
        assert await bench.outcomes(waiting.id) == [("lost", "GENERATION_TIMEOUT")]
        await bench.clock.advance(2.0)
        done = await bench.now(waiting.id)
        assert (done.state, done.worker, stuck.cancelled) == (JobState.SUCCEEDED, "b", [(waiting.id, 1)])


async def test_rows_bound_what_runs_and_tiers_what_is_next(bench: Bench) -> None:
    async with bench.running() as scheduler:
        (server,) = await bench.workers(record(rows=2), script=silence)
        running = [await bench.submit() for _ in range(2)]
        free, paid = await bench.submit(tier="free"), await bench.submit(tier="enterprise")
        assert len(server.orders) == 2
        standing = scheduler.jobs.ordering.standing(free.id)
        assert standing is not None
        assert standing.position == 2
        server.say(server.orders[0], *pictures(server.orders[0]))
        await bench.now(running[0].id)
        assert [order.job_id for order in server.orders[2:]] == [paid.id]


async def test_a_job_whose_model_nobody_has_waits_and_is_said_to(bench: Bench) -> None:
    async with bench.running() as scheduler:
        await bench.workers(record())
        waiting = await bench.submit(model_version="flux@v9")
        other = await bench.submit()
        assert (await bench.now(other.id)).state is JobState.SUCCEEDED
        estimate = scheduler.parts.estimator.of_job(waiting)
        assert estimate is not None
        assert (estimate.position, estimate.feasible) == (1, False)
        await bench.workers(record("w1", models=("flux@v9",)))
        assert (await bench.now(waiting.id)).state is JobState.SUCCEEDED


async def obey_a_newer_leader(bench: Bench) -> None:
    async with bench.running():
        await bench.workers(record(), script=lambda order: [PreconditionFailed("stale", reason="EPOCH_STALE")])
        await bench.submit()


async def test_a_stale_epoch_told_by_a_worker_ends_the_process(bench: Bench) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await obey_a_newer_leader(bench)
    assert caught.group_contains(Deposed)
