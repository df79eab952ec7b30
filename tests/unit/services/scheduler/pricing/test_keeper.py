"""What attempts cost becomes prices: of the catalog, after a restart, and of what is charged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from libs.clients.modelserver import AttemptDone, AttemptFailed, Order
from libs.generation.attempt import FailureKind
from services.scheduler.forecast.scaling import Trigger
from services.scheduler.job import Job
from services.scheduler.pricing.keeper import ANCHOR, DOCUMENT, EVERY_S, MOST_A_SECOND, SAVE_EVERY_S, SET_ASIDE
from services.scheduler.wire import catalog_to_pb
from tests.unit.services.scheduler.fakes import MODEL, Bench, Line, pictures, record, spec

GPU = {"device": "GPU-1", "device_name": "NVIDIA H200"}


def costing(gpu_ms: float) -> Callable[[Order], list[Line]]:
    return lambda order: [*pictures(order)[:-1], AttemptDone(gpu_ms)]


async def draw(bench: Bench, jobs: int) -> list[Job]:
    accepted = [await bench.submit() for _ in range(jobs)]
    return [await bench.now(job.id) for job in accepted]


async def renewed(bench: Bench) -> None:
    await bench.clock.advance(EVERY_S)
    await bench.clock.settle()


async def test_the_catalog_gets_new_prices_every_few_seconds_and_a_restart_keeps_them() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(), script=costing(20.0))
        before = scheduler.catalog.catalog
        watched = scheduler.catalog.watch()
        assert (await anext(watched)) is before
        await draw(bench, 8)
        await renewed(bench)
        told = await asyncio.wait_for(anext(watched), 5)
        assert (told.prices.version, told.version) == (1, before.version + 1)
        assert told.prices.typical_units(spec(), MODEL.pinned) == pytest.approx(20.0, rel=0.1)
        assert scheduler.prices.outcomes == {True: 8}
        message = catalog_to_pb(told)
        assert (message.prices_version, len(message.costs[0].buckets)) == (1, 1)
        await watched.aclose()
    async with bench.running() as scheduler:
        assert scheduler.catalog.catalog.prices == told.prices
        assert scheduler.catalog.catalog.version >= told.version


async def test_nobody_hears_of_prices_that_are_not_written_down() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(), script=costing(20.0))
        versions = []
        save = bench.store.save_document

        async def saving(name: str, document: dict[str, object], epoch: int) -> None:
            if name == DOCUMENT:
                versions.append((document["version"], scheduler.catalog.catalog.prices.version))
            await save(name, document, epoch)

        bench.store.save_document = saving  # type: ignore[method-assign]
        await draw(bench, 8)
        await renewed(bench)
        assert versions == [(1, 0)]
        assert scheduler.catalog.catalog.prices.version == 1


async def test_what_was_learned_without_new_prices_is_written_down_now_and_then() -> None:
    bench = Bench()
    async with bench.running():
        await bench.workers(record(), script=costing(20.0))
        await draw(bench, 2)
        await renewed(bench)
        assert await bench.store.load_document(DOCUMENT) is None
        await bench.clock.advance(SAVE_EVERY_S)
        await draw(bench, 1)
        await renewed(bench)
        kept = await bench.store.load_document(DOCUMENT)
        assert kept is not None
        assert kept["models"][MODEL.pinned]["classes"]["cpu"]["fit"]["jobs"] == 3


async def test_failed_attempts_say_nothing_of_the_cost() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        failed = AttemptFailed(FailureKind.INVALID, "INVALID_REQUEST", "no", 5.0)
        await bench.workers(record(), script=lambda order: [failed])
        await draw(bench, 3)
        assert not scheduler.prices.outcomes


async def test_milliseconds_of_a_slower_device_are_worth_less_and_reported_as_they_were() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(**GPU), script=costing(20.0))
        await draw(bench, 8)
        await bench.workers(record("cpu-0"), script=costing(400.0))
        await draw(bench, 12)
        await renewed(bench)
        assert scheduler.prices.book.worth(MODEL.pinned, "cpu") == pytest.approx(1 / 20)
        (job,) = await draw(bench, 1)
        assert (job.actual_units, job.charged_units) == (20.0, 20.0)
        settled = [payload for kind, payload in bench.limiter.delivered if kind == "settle"][-1]
        assert (settled["actual_units"], settled["gpu_ms"]) == (20.0, 400.0)


async def test_the_leader_and_another_replica_need_workers_by_the_same_prices() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(), script=costing(20.0))
        await draw(bench, 8)
        await renewed(bench)
        units = scheduler.catalog.catalog.prices.units(spec(), MODEL.pinned)
        await bench.workers()
        for _ in range(9):
            await bench.submit(estimated_units=units)
        trigger = Trigger(target_drain_s=0.02 * 3)
        assert await scheduler.scaling.needed(trigger) == 3
        scheduler.lead.serving = False
        assert await scheduler.scaling.needed(trigger) == 3


async def test_a_sample_is_learned_from_where_jobs_end_faster_than_that() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        for _ in range(2 * MOST_A_SECOND):
            scheduler.prices.drew(await bench.submit(), record(), 20.0)
        assert scheduler.prices.outcomes == {True: MOST_A_SECOND}
        await bench.clock.advance(1.0)
        scheduler.prices.drew(await bench.submit(), record(), 20.0)
        assert scheduler.prices.outcomes == {True: MOST_A_SECOND + 1}


async def test_prices_that_cannot_be_read_are_learned_anew() -> None:
    bench = Bench()
    await bench.store.save_document(DOCUMENT, {"version": "of another time"}, 0)
    async with bench.running() as scheduler:
        await bench.workers(record(), script=costing(20.0))
        await draw(bench, 8)
        await renewed(bench)
        assert scheduler.catalog.catalog.prices.version == 1


async def priced_by_two(bench: Bench) -> None:
    """Have a GPU serve first and a slower device after it."""
    async with bench.running() as scheduler:
        await bench.workers(record(**GPU), script=costing(20.0))
        await draw(bench, 8)
        await bench.workers(record("cpu-0"), script=costing(400.0))
        await draw(bench, 12)
        await renewed(bench)
        assert scheduler.prices.book.table.version >= 1


@pytest.mark.parametrize("damaged", [{"version": "of another time"}, {"format": 99}, "a newer shape", None])
async def test_versions_grow_and_units_mean_the_same_when_prices_cannot_be_read(damaged: object) -> None:
    bench = Bench()
    await priced_by_two(bench)
    kept = await bench.store.load_document(DOCUMENT)
    assert kept is not None
    if damaged is None:
        del bench.store._documents[DOCUMENT]
    else:
        bench.store._documents[DOCUMENT] = json.dumps(kept | damaged if isinstance(damaged, dict) else [damaged])
    async with bench.running() as scheduler:
        prices = scheduler.prices
        assert prices.book.table.version == kept["version"] + 1
        assert scheduler.catalog.catalog.version > kept["catalog_version"]
        assert not prices.book.table.entries
        assert prices.book.worth(MODEL.pinned, "cpu") == pytest.approx(1 / 20)
        await bench.workers(record("cpu-0"), script=costing(400.0))
        await draw(bench, 8)
        await renewed(bench)
        assert prices.book.table.version == kept["version"] + 2
        assert prices.book.table.typical_units(spec(), MODEL.pinned) == pytest.approx(20.0, rel=0.1)
        await bench.workers(record(**GPU), script=costing(20.0))
        await draw(bench, 8)
        await renewed(bench)
        assert prices.book.worth(MODEL.pinned, "cpu") == pytest.approx(1 / 20, rel=0.1)
        assert prices.book.table.typical_units(spec(), MODEL.pinned) == pytest.approx(20.0, rel=0.1)
        assert prices.unreadable == (damaged is not None)


async def test_what_cannot_be_read_lies_aside_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await priced_by_two(bench)
    kept = await bench.store.load_document(DOCUMENT)
    assert kept is not None
    later = kept | {"format": 2}
    epoch = (await bench.store.leader()).epoch
    await bench.store.save_document(DOCUMENT, later, epoch)
    await bench.store.save_document(ANCHOR, {"models": 5}, epoch)
    async with bench.running() as scheduler:
        assert await bench.store.load_document(SET_ASIDE) == later
        assert await bench.store.load_document(DOCUMENT) is None
        assert (scheduler.prices.unreadable, scheduler.prices.book.table.version) == (2, 0)
    assert "kept prices cannot be read: they are set aside" in caplog.messages


async def test_a_version_is_in_the_anchor_before_anybody_hears_of_it() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.workers(record(), script=costing(20.0))
        saved = []
        save = bench.store.save_document

        async def saving(name: str, document: dict[str, object], epoch: int) -> None:
            saved.append((name, document.get("version"), scheduler.catalog.catalog.prices.version))
            await save(name, document, epoch)

        bench.store.save_document = saving  # type: ignore[method-assign]
        await draw(bench, 8)
        await renewed(bench)
        assert [each for each in saved if each[0] in (ANCHOR, DOCUMENT)] == [(ANCHOR, 1, 0), (DOCUMENT, 1, 0)]
