from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.modelserver.engine.eviction import Hold, Outlook, Resident, who_leaves
from tests.bench.model_traces import RECIPES, Arrival, Trace, record
from tests.bench.residency import POLICIES, Device, Ours, fewest_loads

NAMES = [f"m{number}" for number in range(8)]
SOON = st.one_of(st.floats(0, 100), st.just(math.inf))
RESIDENTS = st.lists(
    st.builds(Resident, st.sampled_from(NAMES), st.integers(0, 30), st.floats(0, 100), st.sampled_from(Hold)),
    unique_by=lambda each: each.pinned,
)
OUTLOOKS = st.builds(
    Outlook,
    now_s=st.floats(0, 100),
    waiting=st.frozensets(st.sampled_from(NAMES)),
    hints=st.dictionaries(st.sampled_from(NAMES), SOON),
    hints_end_s=st.floats(-100, 200),
    expected_s=st.dictionaries(st.sampled_from(NAMES), SOON),
    leaving=st.frozensets(st.sampled_from(NAMES)),
)


@given(RESIDENTS, st.integers(0, 60), st.integers(0, 100), OUTLOOKS)
def test_room_is_made_by_those_who_may_leave_and_by_no_more_of_them_than_needed(residents, wanted, budget, outlook):
    plan = who_leaves(residents, wanted, budget, outlook)
    by_name = {each.pinned: each for each in residents}
    freed = [by_name[pinned].bytes for pinned in plan.leave]
    short = sum(each.bytes for each in residents) + wanted - budget
    assert all(by_name[pinned].hold is Hold.FREE for pinned in plan.leave)
    assert all(by_name[pinned].hold is Hold.BUSY for pinned in plan.waits_for)
    if plan.possible:
        assert sum(freed) >= short
        assert all(sum(freed) - each < short for each in freed)
    else:
        assert plan.leave == ()
        held = {hold: sum(each.bytes for each in residents if each.hold is hold) for hold in Hold}
        assert held[Hold.FREE] < short
        assert bool(plan.waits_for) == (held[Hold.KEPT] + wanted <= budget)
        waited = sum(by_name[pinned].bytes for pinned in plan.waits_for)
        assert not plan.waits_for or held[Hold.FREE] + waited >= short


@given(RESIDENTS, st.integers(0, 60), st.integers(0, 100), OUTLOOKS, st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_telling(residents, wanted, budget, outlook, chance):
    shuffled = list(residents)
    chance.shuffle(shuffled)
    assert who_leaves(shuffled, wanted, budget, outlook) == who_leaves(residents, wanted, budget, outlook)


@given(st.lists(st.sampled_from(NAMES), min_size=2, unique=True), OUTLOOKS)
def test_of_equal_models_the_one_used_farthest_in_the_future_leaves(names, outlook):
    plan = who_leaves([Resident(name, 7, 0.0) for name in names], 7, 7 * len(names), outlook)
    (left,) = plan.leave
    assert outlook.next_use_in_s(left) == max(outlook.next_use_in_s(name) for name in names)


def test_without_any_statistics_it_is_lru():
    residents = [Resident("a", 7, 3.0), Resident("b", 7, 1.0), Resident("c", 7, 2.0)]
    assert who_leaves(residents, 14, 21, Outlook(9.0)).leave == ("b", "c")


def test_what_waits_here_comes_before_hints_and_hints_before_arrivals():
    outlook = Outlook(
        100.0, waiting={"here"}, hints={"here": math.inf, "hinted": 130.0, "gone": math.inf, "late": 60.0},
        hints_end_s=150.0, expected_s={"hinted": 1.0, "gone": 1.0, "counted": 5.0},
    )  # fmt: skip
    uses = {name: outlook.next_use_in_s(name) for name in ("here", "late", "hinted", "counted", "unknown", "gone")}
    assert uses == {"here": 0, "late": 0, "hinted": 30, "counted": 55, "unknown": math.inf, "gone": math.inf}


def test_a_small_model_does_not_leave_in_vain_before_a_large_one():
    residents = [Resident("small", 2, 1.0), Resident("large", 12, 2.0), Resident("new", 7, 3.0)]
    assert who_leaves(residents, 12, 21, Outlook(9.0)).leave == ("large",)


def test_the_reason_names_both_numbers_and_what_is_held():
    assert who_leaves((), 9, 8, Outlook(0.0)).why == "it needs 9 bytes and the budget is 8 bytes"
    held = who_leaves([Resident("kept", 3, 0.0, Hold.KEPT)], 6, 8, Outlook(0.0))
    assert held.why == "it needs 6 bytes and the budget is 8 bytes, 3 of them held by pinned models"


def test_who_was_told_to_leave_is_not_relieved_by_another_that_is_busy_too():
    residents = [Resident("told", 7, 9.0, Hold.BUSY), Resident("other", 7, 1.0, Hold.BUSY)]
    assert who_leaves(residents, 7, 14, Outlook(9.0)).waits_for == ("other",)
    assert who_leaves(residents, 7, 14, Outlook(9.0, leaving={"told"})).waits_for == ("told",)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_no_trace_needs_more_loads_than_with_lru(recipe):
    trace = record(recipe)
    loads = {name: Device(trace, make()).serve().loads for name, make in POLICIES.items()}  # asserts: none draws
    moved = {name: sum(trace.bytes_of[model] for model in loads[name]) for name in POLICIES}
    for ours in ("ours", "ours, known queue"):
        assert len(loads[ours]) <= len(loads["LRU"])
        assert moved[ours] <= moved["LRU"]


def test_the_bench_waits_while_everybody_draws():
    assert Device(record(RECIPES[7], 500), Ours()).serve().waits > 0


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=25), st.integers(1, 4))
def test_the_optimum_of_the_bench_is_beladys_for_models_of_one_size(asked, room):
    trace = Trace("", tuple(Arrival(0.0, model, 0.0) for model in asked), dict.fromkeys("abcdef", 1), room)
    here, loads = set(), 0
    for number, model in enumerate(asked):
        if model in here:
            continue
        loads += 1
        if len(here) == room:
            rest = asked[number:]
            here.remove(max(sorted(here), key=lambda m, rest=rest: rest.index(m) if m in rest else math.inf))
        here.add(model)
    assert fewest_loads(trace) == loads
