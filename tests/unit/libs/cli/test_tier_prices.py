"""What tiers allow and never grant, at the prices of a catalog."""

from __future__ import annotations

from dataclasses import replace

from libs.cli.tier_prices import compared
from libs.clients.scheduler import Catalog
from libs.generation.cost import CostEntry, CostTable
from libs.generation.model import VIDEO, Model, ModelLimits

MODEL = Model("shapes", "abc", "P", limits=ModelLimits(max_pixels=1024 * 1024), workers=1)
FIELDS = {"units_burst": 60_000, "daily_units": "3000000", "max_pixels": 1_048_576, "max_steps": "50"}


def catalog(*models: Model, per_mp: float = 440.0) -> Catalog:
    return Catalog(1, models, CostTable({model.pinned: CostEntry(per_mp=per_mp) for model in models}), "shapes")


def test_what_fits_at_the_prices_of_now_is_not_told():
    assert list(compared({"free": FIELDS}, catalog(MODEL))) == []


def test_what_became_dear_is_told_by_tier_model_and_limit():
    told = list(compared({"free": FIELDS, "pro": {**FIELDS, "units_burst": 10**9}}, catalog(MODEL, per_mp=4400.0)))
    assert told == [
        "free: one picture of 1_048_576 pixels at 50 steps of shapes@abc costs 468_010 units, and units_burst is 60_000"
    ]


def test_a_tier_that_names_no_largest_picture_allows_what_the_model_does():
    (told,) = compared({"free": {"units_burst": 60_000}}, catalog(MODEL, per_mp=4400.0))
    assert "at 100 steps" in told


def test_clips_and_models_that_serve_nobody_are_passed_over():
    others = [replace(MODEL, output=VIDEO), replace(MODEL, unusable_reason="pickled weights")]
    assert list(compared({"free": FIELDS}, catalog(*others, per_mp=4400.0))) == []
