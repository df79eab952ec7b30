"""What is listed, whoever comes and goes."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from libs.errors import Unavailable
from libs.generation.model import Model, ModelLimits
from libs.ids import WorkerId
from services.scheduler import catalog as keeping
from services.scheduler.catalog_merge import Catalog, alike, forget_replaced, from_document, merge, to_document
from services.scheduler.wire import catalog_to_pb
from tests.unit.services.scheduler.fakes import MODEL, Bench, FakeModelServer, record

W0, W1 = WorkerId("modelserver-0"), WorkerId("w1")
BROKEN = Model(id="bad", version="v0", pipeline="", unusable_reason="weights are pickled: bad.bin")
FLUX = Model(
    id="flux",
    version="v9",
    pipeline="FluxPipeline",
    aliases=("f",),
    limits=ModelLimits(samplers=("a", "b")),
    loras=("ink",),
)


def test_a_union_with_workers_residency_reasons_and_prices() -> None:
    alive = {
        W0: record(resident=(MODEL.pinned,)),
        W1: record("w1", models=(MODEL.pinned, FLUX.pinned), resident=(FLUX.pinned,), device="GPU-1"),
    }
    catalog = merge(Catalog(), {W0: [MODEL, BROKEN], W1: [FLUX, MODEL]}, alive)
    assert [(m.id, m.workers, m.residency) for m in catalog.models] == [
        ("shapes", 2, "ram"),
        ("bad", 0, "disk"),
        ("flux", 1, "vram"),
    ]
    assert (catalog.version, catalog.default_model) == (1, "shapes")
    assert catalog.models[1].unusable_reason == BROKEN.unusable_reason
    assert [cost.model_version for cost in catalog_to_pb(catalog).costs] == [MODEL.pinned, FLUX.pinned]
    assert merge(catalog, {W0: [MODEL, BROKEN], W1: [FLUX, MODEL]}, alive) is catalog


def test_a_usable_version_goes_before_an_unusable_one_and_the_default_stays() -> None:
    newer = dataclasses.replace(MODEL, version="v2", unusable_reason="a file is missing")
    catalog = merge(Catalog(default_model="flux"), {W0: [newer], W1: [MODEL, FLUX]}, {W0: record(models=())})
    assert [m.pinned for m in catalog.models] == ["flux@v9", "shapes@v1"]


def test_adapters_are_those_that_every_worker_with_the_version_has() -> None:
    here, there = (dataclasses.replace(FLUX, loras=loras) for loras in (("ink", "moss", "sky"), ("sky", "ink")))
    older = dataclasses.replace(FLUX, version="v8", loras=())
    alive = {W0: record(models=(FLUX.pinned,)), W1: record("w1", models=(FLUX.pinned,))}
    (model,) = merge(Catalog(), {W0: [here], W1: [there], WorkerId("w2"): [older]}, alive).models
    assert (model.pinned, model.loras) == (FLUX.pinned, ("ink", "sky"))


def test_what_is_kept_comes_back_without_workers() -> None:
    described = {W0: [MODEL, BROKEN], W1: [FLUX]}
    catalog = merge(Catalog(), described, {W0: record()})
    kept, again = from_document(json.loads(json.dumps(to_document(catalog, described))))
    assert again == {worker: list(models) for worker, models in described.items()}
    assert [(m.id, m.workers) for m in kept.models] == [("shapes", 0), ("bad", 0), ("flux", 0)]
    assert kept.version > catalog.version  # its workers went


def test_what_equal_workers_say_is_kept_once_and_older_documents_are_read() -> None:
    equal = {WorkerId(f"w{n}"): said for n in range(3) for said in ([FLUX, MODEL],)}
    described = {worker_id: alike(equal, [FLUX, MODEL]) for worker_id in equal}
    document = json.loads(json.dumps(to_document(merge(Catalog(), described, {}), described)))
    assert (len(document["descriptions"]), document["described"]) == (1, {"w0": 0, "w1": 0, "w2": 0})
    older = {**document, "described": {"w0": document["descriptions"][0]}}
    del older["descriptions"]
    assert from_document(older)[1] == {WorkerId("w0"): [FLUX, MODEL]}


def test_only_workers_whose_models_others_have_are_forgotten() -> None:
    described = {W0: [MODEL], W1: [FLUX]}
    assert set(forget_replaced(described, {W0: record()})) == {W0, W1}
    assert set(forget_replaced({W0: [MODEL], W1: [MODEL]}, {W0: record()})) == {W0}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_models_stay_listed_when_their_workers_go_and_after_a_restart(bench: Bench) -> None:
    async with bench.running() as scheduler:
        watch = scheduler.catalog.watch()
        assert (await anext(watch)).models == ()
        await bench.workers(record())
        first = await anext(watch)
        assert [(m.id, m.workers) for m in first.models] == [("shapes", 1)]
        await bench.workers()
        assert [(m.id, m.workers) for m in (await anext(watch)).models] == [("shapes", 0)]
        await watch.aclose()
    async with bench.running() as scheduler:
        kept = scheduler.catalog.catalog
        assert ([m.id for m in kept.models], kept.default_model) == (["shapes"], "shapes")
        assert kept.version > first.version


async def test_a_worker_that_comes_back_without_a_model_takes_it_off_the_list(bench: Bench) -> None:
    async with bench.running() as scheduler:
        bench.servers["modelserver-0:a"] = FakeModelServer(models=[MODEL, FLUX])
        bench.servers["modelserver-0:b"] = FakeModelServer(models=[FLUX])
        await bench.workers(record())
        await bench.workers(record(incarnation="b", models=(FLUX.pinned,)))
        assert [m.id for m in scheduler.catalog.catalog.models] == ["flux"]


async def test_a_worker_that_left_nothing_of_its_own_is_not_remembered(bench: Bench) -> None:
    async with bench.running():
        await bench.workers(record(), record("w1"))
        await bench.workers(record("w1"))
        document = await bench.store.load_document("catalog")
        assert document is not None
        assert list(document["described"]) == ["w1"]


class Late(FakeModelServer):
    """Describes its models at the second question."""

    asked = 0

    async def describe_models(self) -> list[Model]:
        self.asked += 1
        if self.asked == 1:
            raise Unavailable("starting")
        return await super().describe_models()


async def test_a_worker_that_does_not_answer_is_asked_again_and_a_changed_one_too(bench: Bench) -> None:
    async with bench.running() as scheduler:
        late = Late()
        bench.servers["modelserver-0:a"] = late
        await bench.workers(record())
        assert scheduler.catalog.catalog.version == 0
        await bench.clock.advance(1.0)
        assert [m.id for m in scheduler.catalog.catalog.models] == ["shapes"]
        late.models = [dataclasses.replace(MODEL, unusable_reason="it did not load")]
        await bench.workers(record(models=()))
        assert [m.usable for m in scheduler.catalog.catalog.models] == [False]


async def test_a_stop_ends_the_watch(bench: Bench) -> None:
    async with bench.running() as scheduler:
        watch = scheduler.catalog.watch()
        await anext(watch)
        reading = asyncio.ensure_future(anext(watch, None))
        await bench.clock.settle()
        await scheduler.end_streams()
        assert await reading is None


async def test_what_workers_are_given_is_no_reason_to_look_at_all_models(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.running() as scheduler:
        await bench.workers(record())
        before = scheduler.catalog.catalog
        monkeypatch.setattr(keeping, "merge", None)  # it would fail
        await bench.submit()
        await bench.workers(record(rows_in_use=1, load_share=0.5))
        assert scheduler.catalog.catalog is before
