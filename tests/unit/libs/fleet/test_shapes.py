"""How many of a worker's jobs draw side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.fleet.model_rows import ModelRows
from libs.fleet.shapes import Shape, drawing, most_rows
from libs.generation.spec import GenerationSpec

SPEC = GenerationSpec("a cat", "", "m", 512, 512, 1, 20, 1.0, 7, "euler")
MOST = {("m@1", 18): 4, ("m@1", 20): 1}
SHAPES = st.lists(st.builds(Shape, st.sampled_from(["m@1", "n@1"]), st.sampled_from([0, 18, 20]), st.integers(1, 6)))


def most(shape: Shape) -> int | None:
    return MOST.get((shape.model, shape.size))


@pytest.mark.parametrize(
    ("changes", "size", "rows"),
    [
        ({}, 18, 1),
        ({"guidance_scale": 5.0, "images": 3}, 18, 6),
        ({"width": 513}, 19, 1),
        ({"width": 1024, "height": 1024}, 20, 1),
        ({"frames": 16}, 22, 1),
    ],
)
def test_a_shape_is_of_size_and_rows(changes: dict[str, Any], size: int, rows: int) -> None:
    assert Shape.of("m@1", replace(SPEC, **changes)) == Shape("m@1", size, rows)


def test_of_sizes_in_one_class_the_least_counts() -> None:
    told = [ModelRows("m@1", 0, (("512x512", 8), ("512x384", 6), ("odd", 1), ("512x512x2", 2)))]
    assert most_rows(told) == {("m@1", 18): 6, ("m@1", 19): 2}


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([], (0, 0)),
        ([Shape("m@1", 20, 6)], (1, 6)),  # the first one always
        ([Shape("m@1", 18, 2)] * 3, (2, 4)),
        ([Shape("m@1", 18, 2), Shape("m@1", 20, 1), Shape("m@1", 18, 1)], (1, 2)),  # all behind one that waits
        ([Shape("m@1", 20, 1), Shape("m@1", 18, 3)], (2, 4)),
        ([Shape("n@1", 18, 2)] * 5, (3, 6)),  # nothing measured: as many as the worker says
    ],
)
def test_jobs_begin_in_order_while_their_rows_fit(shapes: list[Shape], expected: tuple[int, int]) -> None:
    assert drawing(shapes, most, 3) == expected


@given(SHAPES, st.integers(1, 4))
def test_whoever_draws_fits_and_nobody_waits_without_need(shapes: list[Shape], at_once: int) -> None:
    jobs, rows = drawing(shapes, most, at_once)
    assert rows == sum(shape.rows for shape in shapes[:jobs])
    assert jobs >= min(1, len(shapes))
    last = shapes[jobs - 1] if jobs > 1 else None
    if last is not None:
        bound = most(last)
        assert jobs <= at_once if bound is None else rows <= bound
    if jobs < len(shapes):
        bound = most(shapes[jobs])
        assert jobs >= at_once if bound is None else rows + shapes[jobs].rows > bound
