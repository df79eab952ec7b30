"""The goals of tests/bench/placement.py, held on the first jobs of each of its traces."""

from __future__ import annotations

import pytest

from tests.bench.model_traces import RECIPES, Recipe, record
from tests.bench.placement import measure
from tests.bench.placement_town import ONE, TEN

JOBS = 400
RUNS = [recipe for recipe in RECIPES if recipe.session > 1.0]  # in order of arrival, jobs of a model come together


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_fewer_jobs_wait_and_fewer_models_are_loaded_than_with_lru(recipe: Recipe) -> None:
    result = measure(record(recipe, JOBS), ONE)
    assert result.waited <= 0.6
    assert result.loads <= 1.0


@pytest.mark.parametrize("recipe", RUNS, ids=lambda recipe: recipe.name)
def test_fewer_jobs_wait_also_where_a_fair_order_breaks_up_what_came_together(recipe: Recipe) -> None:
    assert measure(record(recipe, JOBS), TEN).waited <= 0.6
