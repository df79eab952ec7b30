from __future__ import annotations

from libs.generation.cost import CostEntry, CostTable
from libs.generation.largest import largest_of, picture
from libs.generation.model import Model, ModelLimits

MODEL = Model("shapes", "abc", "P", limits=ModelLimits(max_size=1024, max_pixels=512 * 512, max_steps=60))


def test_it_is_what_both_the_model_and_the_tier_allow():
    costs = CostTable({})
    by_tier, by_model = largest_of(MODEL, costs, 10_000, 7), largest_of(MODEL, costs, None, None)
    assert (by_tier.pixels, by_tier.steps, by_model.pixels, by_model.steps) == (10_000, 7, 512 * 512, 60)
    assert largest_of(MODEL, costs, 10**7, 500) == by_model
    assert str(by_tier) == "one picture of 10_000 pixels at 7 steps of shapes@abc"


def test_its_price_is_the_measured_one_with_guidance():
    dear = CostTable({MODEL.pinned: CostEntry(fixed=1.0, per_mp=44_000.0)})
    found = largest_of(MODEL, dear, None, None)
    assert (
        found.units
        == dear.units(picture(512 * 512, 60), MODEL.pinned)
        > 90 * CostTable({}).units(picture(512 * 512, 60, guidance_scale=0.0), MODEL.pinned)
    )
