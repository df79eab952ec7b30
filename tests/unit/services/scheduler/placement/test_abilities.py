"""What a fleet can draw, counted together."""

from __future__ import annotations

from services.scheduler.placement.abilities import Abilities
from tests.unit.services.scheduler.fakes import record


def test_rows_feasibility_and_builds_by_model() -> None:
    one = record("one", models=("a@1", "b@1"), rows=2, engine_build="x")
    two = record("two", models=("a@1",), rows=3, engine_build="x", draining=True)
    three = record("three", models=("c@1",), rows=1, draining=True)
    abilities = Abilities([one, two, three])
    models = ("a@1", "b@1", "c@1", "d@1")
    assert [abilities.rows(model) for model in models] == [5, 2, 1, 0]
    assert [abilities.feasible(model) for model in models] == [True, True, False, False]
    assert [set(abilities.builds(model)) for model in models] == [{"x"}, {"x"}, {""}, set()]
