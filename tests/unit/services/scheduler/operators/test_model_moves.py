"""Warming and evicting on an operator's word: which workers are asked, and how their answers are told."""

from __future__ import annotations

from typing import Any

import pytest

from libs import errors
from libs.fleet.record import WorkerRecord
from libs.generation.cost import CostTable
from libs.generation.model import Model
from libs.ids import WorkerId
from services.scheduler.catalog_merge import Catalog
from services.scheduler.operators.model_moves import ModelMoves


class Workers:
    """A fleet whose workers are its own connections; `away` ones do not answer, `drawing` ones keep their models."""

    def __init__(self):
        self.asked: list[tuple[str, ...]] = []
        self.away, self.drawing = set(), set()
        self._records = {
            WorkerId(name): WorkerRecord(WorkerId(name), "i", f"{name}:1", "cpu", 1, models, (), 1, 0, 0.0)
            for name, models in (("b", ("m@1",)), ("a", ("m@1", "n@1")), ("c", ("n@1",)))
        }

    def workers(self):
        return self._records

    def server(self, record):
        return Server(self, record.worker_id)


class Server:
    def __init__(self, fleet, name):
        self._fleet, self._name = fleet, name

    async def warm(self, pinned, tier):
        if self._name in self._fleet.away:
            raise errors.Unavailable("The model server does not answer.")
        self._fleet.asked.append((self._name, pinned, tier))

    async def evict(self, pinned):
        self._fleet.asked.append((self._name, pinned))
        return self._name not in self._fleet.drawing


@pytest.fixture
def fleet():
    return Workers()


@pytest.fixture
def moves(fleet):
    models = (Model("m", "1", "P", aliases=("default",)), Model("n", "1", "P"))
    keeper: Any = type("Keeper", (), {"catalog": Catalog(1, models, CostTable(), "m")})()
    return ModelMoves(fleet, keeper)


async def test_every_worker_that_can_run_the_model_is_asked_and_a_failure_is_told_beside_the_others(fleet, moves):
    fleet.away = {"b"}
    told = await moves.warm("default", "", "")
    assert [(move.worker_id, move.pinned, bool(move.refusal)) for move in told] == [
        ("a", "m@1", False),
        ("b", "m@1", True),
    ]
    assert "does not answer" in told[1].refusal
    assert fleet.asked == [("a", "m@1", "vram")]


async def test_one_worker_may_be_meant(fleet, moves):
    await moves.warm("n@1", "c", "ram")
    assert fleet.asked == [("c", "n@1", "ram")]


async def test_a_model_that_draws_is_kept_and_that_is_told(fleet, moves):
    fleet.drawing = {"b"}
    told = await moves.evict("m", "")
    assert [bool(move.refusal) for move in told] == [False, True]


@pytest.mark.parametrize(
    ("model", "worker", "tier", "error", "told"),
    [
        ("nothing", "", "", errors.NotFound, "Known models"),
        ("m", "z", "", errors.NotFound, "Alive: a, b, c"),
        ("m", "", "disk", errors.InvalidRequest, "vram or ram"),
    ],
)
async def test_wrong_wishes_say_what_would_be_right(moves, model, worker, tier, error, told):
    with pytest.raises(error, match=told):
        await moves.warm(model, worker, tier)


async def test_a_model_that_nobody_alive_can_run_is_no_wish_to_wait_for(fleet, moves):
    del fleet._records["a"], fleet._records["c"]
    with pytest.raises(errors.PreconditionFailed, match="No living worker"):
        await moves.warm("n", "", "")
