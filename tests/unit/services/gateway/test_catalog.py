from __future__ import annotations

import asyncio
import dataclasses

import pytest

from libs.clients.scheduler import Catalog
from libs.errors import NotFound, PreconditionFailed, Unavailable
from libs.generation.cost import CostTable
from libs.generation.model import Model
from libs.testing.clock import ManualClock
from services.gateway.catalog import CatalogView, CatalogWatcher
from tests.unit.services.gateway.fakes import MODEL, FakeScheduler, catalog

BROKEN = Model("broken", "x", "P", unusable_reason="pickled weights", workers=1)


def version(number: int) -> Catalog:
    return Catalog(number, (dataclasses.replace(MODEL, version=f"v{number}"),), CostTable({}), MODEL.id)


def test_before_the_first_catalog_everything_is_a_matter_of_time() -> None:
    view = CatalogView()
    for ask in (lambda: view.models, lambda: view.costs, lambda: view.find(""), lambda: view.read("x")):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert caught.value.retry_after_s
    assert view.serving() == []


def test_an_unusable_model_can_be_read_and_not_used() -> None:
    view = catalog(MODEL, BROKEN)
    assert view.read("broken") == BROKEN
    assert view.read("shapes@abc") == MODEL
    with pytest.raises(PreconditionFailed):
        view.find("broken")
    with pytest.raises(NotFound):
        view.read("nope")


def test_only_what_a_living_worker_can_run_is_serving() -> None:
    idle = dataclasses.replace(MODEL, id="idle", workers=0)
    assert catalog(MODEL, BROKEN, idle).serving() == [MODEL]


async def test_the_watcher_keeps_the_last_one_and_comes_back() -> None:
    scheduler, view, clock = FakeScheduler(), CatalogView(), ManualClock()
    scheduler.catalogs = [(Unavailable("away"),), (version(1), Unavailable("away")), (), (version(2),)]
    watching = asyncio.create_task(CatalogWatcher(scheduler, view, clock).run())
    async with asyncio.timeout(5):
        while not scheduler.catalogs or len(scheduler.catalogs) > 2:
            await clock.advance(0.2)
        assert view.find("").version == "v1"
        while scheduler.catalogs:
            await clock.advance(0.2)
    assert view.find("").version == "v2"
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
