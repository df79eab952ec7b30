"""How many attempts there is room for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from services.modelserver.acceptance import has_room
from services.modelserver.attempt import Order
from services.modelserver.engine.protocol import Load, ModelLoad

SPEC = GenerationSpec("a cat", "", "m", 64, 64, 1, 20, 1.0, 7, "euler")
LOAD = Load(0, 0, 0, 0, 2, (ModelLoad("m@1", 0, (("64x64", 8), ("256x256", 1))),))


def order(**changes: Any) -> Order:
    return Order(JobId("j"), 1, 1, "m@1", replace(SPEC, **changes), "")


SMALL, LARGE = order(), order(width=256, height=256)


@pytest.mark.parametrize(
    ("held", "comes", "at_once", "slots", "room"),
    [
        ([SMALL] * 8, SMALL, 2, 0, True),  # eight draw, one waits
        ([SMALL] * 9, SMALL, 2, 0, False),
        ([SMALL] * 3, SMALL, 2, 2, False),  # rows do not count where slots are few
        ([LARGE] * 2, LARGE, 2, 0, True),  # who counts jobs by what the worker says of all is not refused
        ([LARGE] * 3, LARGE, 2, 0, False),
        ([SMALL, SMALL, SMALL], LARGE, 2, 0, True),
        ([SMALL, SMALL, SMALL, LARGE], SMALL, 2, 0, False),
        ([], SMALL, 0, 0, False),  # its results are held up
    ],
)
def test_there_is_room_for_what_draws_and_one_more(
    held: list[Order], comes: Order, at_once: int, slots: int, room: bool
) -> None:
    assert has_room(comes, held, LOAD, at_once, slots) is room
