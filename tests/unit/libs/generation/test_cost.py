from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from libs.generation.cost import CostEntry, CostTable
from libs.generation.spec import GenerationSpec

TABLE = CostTable({"m@1": CostEntry(fixed=10, per_mp=100, per_mp2=0, guided=2)})


def spec(**changes: object) -> GenerationSpec:
    base = GenerationSpec("p", "", "m", 1000, 1000, 1, 10, 5.0, 0, "euler")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_the_formula() -> None:
    assert TABLE.units(spec(), "m@1") == 10 + 10 * 1 * 2 * 100
    assert TABLE.units(spec(guidance_scale=1.0, images=3), "m@1") == 10 + 10 * 3 * 1 * 100


def test_a_clip_costs_its_frames_and_a_drawing_over_a_picture_its_steps() -> None:
    assert TABLE.units(spec(frames=16, fps=8), "m@1") == 10 + 10 * 16 * 2 * 100
    assert TABLE.units(spec(input_image="upl_1", strength=0.31), "m@1") == 10 + 3 * 1 * 2 * 100
    assert TABLE.units(spec(input_image="upl_1", strength=1.0), "m@1") == TABLE.units(spec(), "m@1")


def test_an_unmeasured_version_has_the_prior() -> None:
    assert TABLE.units(spec(), "m@2") == CostTable({}).units(spec(), "m@1")


@given(st.integers(64, 2048), st.integers(1, 100), st.integers(1, 4), st.floats(1.1, 20))
def test_it_grows_with_size_steps_and_images(side: int, steps: int, images: int, guidance: float) -> None:
    small = spec(width=side, height=side, steps=steps, images=images, guidance_scale=guidance)
    price = CostTable({}).units(small, "m@1")
    for name, value in (("width", side + 64), ("steps", steps + 1), ("images", images + 1)):
        assert CostTable({}).units(dataclasses.replace(small, **{name: value}), "m@1") > price  # type: ignore[arg-type]


def test_one_large_picture_costs_more_than_ten_small_ones() -> None:
    large, small = spec(width=2048, height=2048, steps=50), spec(width=512, height=512, steps=20)
    assert CostTable({}).units(large, "m@1") > 10 * CostTable({}).units(small, "m@1")
