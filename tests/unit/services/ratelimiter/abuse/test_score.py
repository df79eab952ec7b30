"""What looks like a machine and what does not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ratelimiter.abuse.score import Doing, Signals, score

NOW_S = 1_700_000_000.0
EVERY_TEN_S = [NOW_S - 10.0 * n for n in range(12)][::-1]
ALL_WRONG = Doing(EVERY_TEN_S, alike=1.0, largest=1.0)


def like_a_person(seed: int) -> list[float]:
    chance = random.Random(seed)
    gaps = [chance.expovariate(1 / 40) for _ in range(12)]
    return [NOW_S - sum(gaps[at:]) for at in range(12)]


@pytest.mark.parametrize("seed", range(20))
def test_a_person_who_tries_one_prompt_again_and_again_at_full_size_is_left_alone(seed: int):
    assert score(Signals(Doing(like_a_person(seed), alike=1.0, largest=1.0)), NOW_S) < 60


def test_a_person_with_prompts_of_all_kinds_scores_little():
    found = [score(Signals(Doing(like_a_person(seed), alike=0.3, largest=0.3)), NOW_S) for seed in range(20)]
    assert max(found) < 40


@pytest.mark.parametrize(
    ("signals", "least", "most"),
    [
        (Signals(), 0, 0),
        (Signals(Doing(EVERY_TEN_S[-7:], alike=1.0, largest=1.0)), 0, 0),  # too few to say
        (Signals(Doing(EVERY_TEN_S)), 30, 30),
        (Signals(Doing(EVERY_TEN_S, alike=1.0)), 50, 50),
        (Signals(ALL_WRONG), 65, 65),
        (Signals(ALL_WRONG, newcomers=10), 95, 95),
        (Signals(ALL_WRONG, newcomers=10, places=100, listed=True), 100, 100),
        (Signals(newcomers=3, places=20), 0, 0),  # an office
        (Signals(listed=True), 40, 40),
        (Signals(newcomers=1000, places=1000, listed=True), 55, 55),  # all of it the neighbours' doing
        (Signals(Doing(), ALL_WRONG, 1000, 1000, listed=True), 55, 55),
        (Signals(Doing([NOW_S - 3600.0]), ALL_WRONG, 1000), 55, 55),  # it may be the same with cookies to choose from
        (Signals(ALL_WRONG, ALL_WRONG), 65, 65),  # its own, not twice
        (Signals(ALL_WRONG, ALL_WRONG, 1000), 95, 95),
    ],
)
def test_the_table(signals: Signals, least: int, most: int):
    assert least <= score(signals, NOW_S) <= most


def test_half_a_minute_after_its_last_job_the_worst_caller_is_let_in():
    worst = Signals(ALL_WRONG, Doing(), 1000, 1000, listed=True)
    assert score(worst, NOW_S) == 100
    assert score(worst, NOW_S + 30) < 80
    assert score(worst, NOW_S + 3600) == 40  # it is still listed


def test_neighbours_that_go_on_keep_nobody_refused():
    going_on = Doing([at_s + 30 for at_s in EVERY_TEN_S], alike=1.0, largest=1.0)
    assert score(Signals(ALL_WRONG, going_on, 1000, 1000), NOW_S + 30) < 80


shares = st.floats(0, 1)
counts = st.integers(0, 10**6)
doings = st.builds(Doing, st.lists(st.floats(0, 2e9), max_size=40).map(sorted), shares, shares)


@given(st.builds(Signals, doings, doings, counts, counts, st.booleans()), st.floats(0, 2e9))
def test_it_is_0_to_100_whatever_comes(signals: Signals, now_s: float):
    assert 0 <= score(signals, now_s) <= 100


@given(st.builds(Signals, st.just(Doing()), doings, counts, counts, st.booleans()), st.floats(0, 2e9))
def test_whoever_has_made_nothing_is_never_above_55(signals: Signals, now_s: float):
    assert score(signals, now_s) <= 55
