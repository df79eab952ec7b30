from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.modelserver.engine.held_model import Stage
from services.modelserver.engine.protocol import Tier
from tests.unit.services.modelserver.engine.resident_models import Place, own_weight

SIZES = {"a": 100, "b": 100, "c": 100, "d": 100, "large": 240, "huge": 400}


def test_an_engine_that_obeys_serves_everybody_however_much_the_others_want(tmp_path):
    """Room for one; a and b are asked for all the time, c is warmed now and then. A drawing takes 2 s."""
    place = Place(tmp_path, {"a": 200, "b": 200, "c": 300})
    draws_until_s: dict[str, float] = {}
    served_s: dict[str, list[float]] = {"a": [0.0], "b": [0.0]}
    came_s = [-100.0]
    place.bring("a")
    while place.now_s < 200.0:
        busy = {name for name, end_s in draws_until_s.items() if end_s > place.now_s}
        place.want("a", "b", *("c" for _ in range(place.now_s % 50 == 10.0)))
        place.until(lambda: not place.residency.progress(), busy)
        came_s += [place.now_s for change in place.changes if change.pinned == "c@1"]
        place.changes.clear()
        for name in "ab":
            if f"{name}@1" not in place.residency.closed() and place.draws(name):
                draws_until_s[name] = place.now_s + 2.0
                served_s[name].append(place.now_s)
        place.now_s += 0.5
    gaps = [max(b - a for a, b in pairwise([*times, place.now_s])) for times in served_s.values()]
    assert max(gaps) < 25.0
    assert min(map(len, served_s.values())) > 100
    assert len(came_s) == 5
    place.residency.close()


NAMES = st.sampled_from(sorted(SIZES))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), NAMES, st.sampled_from([Tier.RAM, Tier.VRAM])),
        st.tuples(st.just("evict"), NAMES, st.none()),
        st.tuples(st.just("wait"), st.floats(0, 40), st.none()),
        st.tuples(st.just("advance"), st.sets(NAMES), st.none()),
        st.tuples(st.just("settle"), st.sets(NAMES), st.none()),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, own=st.booleans(), idle_s=st.sampled_from([0.0, 20.0]))
def test_whatever_happens_budgets_hold_who_draws_stays_and_weights_are_right(tmp_path_factory, steps, own, idle_s):
    place = Place(tmp_path_factory.mktemp("models"), SIZES, host=350, idle_s=idle_s)
    place.memory.own = own
    try:
        for what, argument, tier in steps:
            before = place.in_vram()
            busy = (argument & before) if what in ("advance", "settle") else set()
            if what == "want":
                place.want(argument, tier=tier)
            elif what == "evict":
                place.residency.evict(f"{argument}@1", busy=())
            elif what == "wait":
                place.now_s += argument
            elif what == "advance":
                place.advance(busy)
            else:
                place.until(lambda: not place.residency.progress(), busy)
            held = {each.pinned.removesuffix("@1"): each for each in place.residency._held}
            coming = {name for name, each in held.items() if each.stage is (Stage.COMING if own else Stage.READING)}
            assert sum(SIZES[name] for name in place.in_vram() | coming) <= 300
            assert sum(each.host_bytes for each in held.values()) <= 350
            assert busy <= place.in_vram()
            for name, tier_of in place.tiers().items():
                assert torch.equal(place.weight(name), own_weight(name, SIZES[name])), (name, tier_of)
    finally:
        place.residency.close()
    assert place.memory.registered == set()
