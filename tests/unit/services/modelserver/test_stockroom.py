"""Models brought and let go on somebody's word."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from libs.errors import PreconditionFailed, Unavailable
from libs.generation.model import Model
from libs.rpc import deadlines
from services.modelserver.engine.protocol import Tier
from services.modelserver.models import ModelFolder
from services.modelserver.options import ModelOptions
from services.modelserver.shelf import Shelf
from services.modelserver.stockroom import Place, Stockroom
from tests.unit.services.modelserver.bench import Bench


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    await made.close()


@pytest.fixture
def stockroom(bench):
    return Stockroom(bench.engine, bench.worker.device, bench.shelf)


async def test_a_model_is_brought_told_of_and_let_go(bench, stockroom):
    stockroom.warm("other@1", Tier.RAM)
    await bench.until(lambda: bench.worker.device.residency)
    assert stockroom.places() == [Place("m@1", Tier.DISK, 0, None), Place("other@1", Tier.RAM, 0, None)]
    assert await stockroom.evict("other@1")
    assert not await stockroom.evict("other@1")


@pytest.mark.parametrize(("compiled", "tier"), [(True, Tier.VRAM), (True, Tier.RAM), (False, Tier.VRAM)])
async def test_the_watch_over_the_device_is_told_of_a_model_that_will_be_compiled(bench, compiled, tier):
    told: list[str] = []
    device: Any = SimpleNamespace(tell=lambda command: None, coming=told.append)
    folder = ModelFolder(Path("m"), Model("m", "1", "P"), ModelOptions(compile=compiled))
    Stockroom(bench.engine, device, Shelf([folder])).warm("m@1", tier)
    assert told == (["m@1"] if compiled and tier is Tier.VRAM else [])


@pytest.mark.parametrize("pinned", ["bad@1", "m@2"])
async def test_what_cannot_be_used_is_not_brought(stockroom, pinned):
    with pytest.raises(PreconditionFailed, match=pinned.partition("@")[0]):
        stockroom.warm(pinned, Tier.VRAM)


async def test_a_device_in_a_long_pass_is_not_waited_for(bench, stockroom, monkeypatch):
    monkeypatch.setattr(deadlines, "CONTROL_S", 0.01)
    bench.gate.clear()
    bench.take()
    await bench.draws()
    with pytest.raises(Unavailable, match="long pass"):
        await stockroom.evict("other@1")


async def test_how_far_a_load_is_is_told_where_the_engine_tells_it(bench, stockroom):
    bench.engine.load_share = lambda: {"m@1": 0.5}
    assert [place.load_share for place in stockroom.places()] == [0.5, None]
