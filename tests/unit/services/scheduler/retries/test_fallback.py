"""A fallback model draws what a job's own model cannot: only where the job allows it, as it stands, and not dearer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from libs.clients.modelserver import AttemptDone, AttemptFailed
from libs.generation.attempt import FailureKind
from libs.generation.cost import CostTable
from libs.generation.model import Model, ModelDefaults, ModelLimits
from services.scheduler.catalog_merge import Catalog
from services.scheduler.job import JobState
from services.scheduler.retries.fallback import substitute
from services.scheduler.retries.substitution import AFTER_S
from tests.unit.services.scheduler.fakes import MODEL, Bench, job, pictures, record, silence, spec

LARGE = Model("large", "v1", "P", fallback="shapes")
WILLING = spec(model="large", allow_downgrade=True)
ASKED: dict[str, Any] = {"model": "large", "model_version": LARGE.pinned, "spec": WILLING}


def catalog(*models: Model) -> Catalog:
    return Catalog(1, models, CostTable(), models[0].id)


def test_the_named_fallback_takes_over() -> None:
    assert substitute(job(1.0, **ASKED), catalog(LARGE, MODEL)) == MODEL


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": spec(model="large")},
        {"downgraded_from": "other@v1"},
        {"cancel_requested": True},
        {"spec": replace(WILLING, sampler="unipc")},
        {"spec": replace(WILLING, width=4096)},
        {"spec": replace(WILLING, steps=1000)},
        {"spec": replace(WILLING, frames=9, fps=8)},
        {"spec": replace(WILLING, input_image="upload_1", strength=0.5)},
        {"model_version": "gone@v1"},
    ],
)
def test_nothing_takes_over_what_it_may_not_or_cannot_draw_as_it_stands(changes: dict[str, Any]) -> None:
    assert substitute(job(1.0, **(ASKED | changes)), catalog(LARGE, MODEL)) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(MODEL, unusable_reason="torn"),
        replace(MODEL, id="another"),
        replace(MODEL, limits=ModelLimits(max_size=64)),
        replace(MODEL, output="video", defaults=ModelDefaults(frames=9, fps=8)),
    ],
)
def test_a_fallback_that_cannot_takes_nothing_over(other: Model) -> None:
    assert substitute(job(1.0, **ASKED), catalog(LARGE, other)) is None


def test_a_model_is_no_fallback_of_itself() -> None:
    own = replace(LARGE, fallback="large")
    assert substitute(job(1.0, **ASKED), catalog(own, MODEL)) is None


def full(order):
    if order.model_version == LARGE.pinned:
        return [AttemptFailed(FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY", "full", 1.0)]
    return [*pictures(order)[:-1], AttemptDone(9_000.0)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def both(bench: Bench, script: Any) -> Any:
    worker = record(models=(LARGE.pinned, MODEL.pinned))
    bench.server(worker.address).models = [LARGE, MODEL]
    bench.server(worker.address).script = script
    (server,) = await bench.workers(worker)
    return server


async def test_what_does_not_fit_is_drawn_by_the_fallback_for_no_more_than_estimated(bench: Bench) -> None:
    async with bench.running():
        server = await both(bench, full)
        done = await bench.now((await bench.submit(**ASKED)).id)
        assert (done.state, done.model_version, done.downgraded_from) == (
            JobState.SUCCEEDED,
            MODEL.pinned,
            LARGE.pinned,
        )
        assert [order.model_version for order in server.orders] == [LARGE.pinned] * 3 + [MODEL.pinned]
        assert (done.actual_units, done.charged_units) == (9_000.0, done.estimated_units)


async def test_what_allows_no_other_model_dies(bench: Bench) -> None:
    async with bench.running():
        await both(bench, full)
        dead = await bench.now((await bench.submit(**(ASKED | {"spec": spec(model="large")}))).id)
        assert (dead.state, dead.model_version, dead.dead_at) == (JobState.FAILED, LARGE.pinned, bench.clock.now())


async def test_a_model_that_cannot_be_used_twice_is_replaced(bench: Bench) -> None:
    def torn(order):
        if order.model_version == LARGE.pinned:
            return [AttemptFailed(FailureKind.MODEL_UNAVAILABLE, "MODEL_UNUSABLE", "torn", 0.0)]
        return pictures(order)

    async with bench.running():
        server = await both(bench, torn)
        waiting = await bench.submit(**ASKED)
        assert (await bench.now(waiting.id)).state is JobState.QUEUED
        await bench.clock.advance(5.0)
        assert (await bench.now(waiting.id)).state is JobState.SUCCEEDED
        assert [order.model_version for order in server.orders] == [LARGE.pinned] * 2 + [MODEL.pinned]


async def test_a_model_without_a_worker_is_replaced_after_a_while(bench: Bench) -> None:
    async with bench.running():
        await both(bench, silence)
        small = record("small", models=(MODEL.pinned,))
        (server,) = await bench.workers(small)
        waiting, steadfast = await bench.submit(**ASKED), await bench.submit(**(ASKED | {"spec": spec(model="large")}))
        await bench.clock.advance(AFTER_S - 1.0)
        assert (await bench.now(waiting.id)).state is JobState.QUEUED
        for _ in range(3):
            await bench.clock.advance(5.0)
        assert (await bench.now(waiting.id)).state is JobState.SUCCEEDED
        assert (await bench.now(steadfast.id)).state is JobState.QUEUED
        assert [order.model_version for order in server.orders] == [MODEL.pinned]
