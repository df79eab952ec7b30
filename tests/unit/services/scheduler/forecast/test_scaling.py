"""What an autoscaler is told, by the leader from memory and by another replica from the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from libs.errors import InvalidRequest
from services.scheduler.forecast.scaling import LOOK_S, Scaling, Trigger, trigger_of
from tests.unit.services.scheduler.fakes import Bench, pictures, record, silence


def test_metadata_says_the_model_the_time_and_the_bounds_and_others_are_not_ours() -> None:
    assert trigger_of({}) == Trigger()
    metadata = {"model": "shapes", "target_drain_s": "30", "min": "1", "max": "8", "scalerAddress": "scheduler:9090"}
    assert trigger_of(metadata) == Trigger("shapes", 30.0, 1, 8)


def test_the_example_for_kubernetes_can_be_read() -> None:
    documents = yaml.safe_load_all((Path(__file__).parents[5] / "k8s" / "keda" / "scaledobject.yaml").read_text())
    (trigger,) = next(document for document in documents if document["kind"] == "ScaledObject")["spec"]["triggers"]
    assert trigger["type"] == "external-push"
    assert trigger_of(trigger["metadata"]) == Trigger()


def test_metadata_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        trigger_of({"target_drain_s": "0", "min": "-1", "max": "many"})
    assert [violation.field for violation in caught.value.violations] == ["target_drain_s", "min", "max"]
    for odd in ("nan", "inf"):
        with pytest.raises(InvalidRequest):
            trigger_of({"target_drain_s": odd})


async def test_leader_and_standby_count_the_same() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(), script=silence)
        for units in (5_000.0, 90_000.0, 30_000.0):
            await bench.submit(estimated_units=units)
        await bench.submit(estimated_units=50_000.0, model_version="posters@v1")
        standby = Scaling(scheduler.forecaster.demand, bench.store, lambda: False, bench.clock)
        for scaling in (scheduler.scaling, standby):
            assert await scaling.needed(Trigger()) == 4  # 170 s of work in 60 s, and one at work
            assert await scaling.needed(Trigger("shapes")) == 3
            assert await scaling.needed(Trigger("posters@v1", 25.0)) == 2
            assert await scaling.needed(Trigger("unheard of")) == 0
            assert await scaling.needed(Trigger("unheard of", least=2)) == 2
            assert await scaling.needed(Trigger(most=3)) == 3


@asynccontextmanager
async def watching(scaling: Scaling, trigger: Trigger) -> AsyncIterator[list[bool]]:
    heard: list[bool] = []

    async def listen() -> None:
        async for active in scaling.watch(trigger):
            heard.append(active)

    task = asyncio.create_task(listen())
    yield heard
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_watch_tells_at_once_that_work_came_and_later_that_it_is_done() -> None:
    bench = Bench()
    async with bench.running() as scheduler, watching(scheduler.scaling, Trigger()) as heard:
        await bench.clock.settle()
        assert heard == [False]
        await bench.submit()
        assert heard == [False, True]  # no worker is there, and no time has passed
        await bench.workers(record(), script=pictures)
        await bench.clock.settle()
        assert heard == [False, True, False]


async def test_a_watch_of_a_standby_looks_by_itself() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        standby = Scaling(scheduler.forecaster.demand, bench.store, lambda: False, bench.clock)
        async with watching(standby, Trigger()) as heard:
            await bench.clock.settle()
            await bench.submit()
            assert heard == [False]
            await bench.clock.advance(LOOK_S)
            assert heard == [False, True]


async def test_a_watch_ends_when_the_process_stops() -> None:
    bench = Bench()
    async with bench.running() as scheduler, asyncio.TaskGroup() as tasks:

        async def listen() -> list[bool]:
            return [active async for active in scheduler.scaling.watch(Trigger())]

        heard = tasks.create_task(listen())
        await bench.clock.settle()
        scheduler.scaling.stop()
        assert await heard == [False]
