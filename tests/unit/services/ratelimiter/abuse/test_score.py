"""What looks like a machine and what does not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ratelimiter.abuse.score import Signals, score

NOW_S = 1_700_000_000.0
EVERY_TEN_S = [NOW_S - 10.0 * n for n in range(12)][::-1]


def like_a_person(seed: int) -> list[float]:
    chance = random.Random(seed)
    gaps = [chance.expovariate(1 / 40) for _ in range(12)]
    return [NOW_S - sum(gaps[at:]) for at in range(12)]


@pytest.mark.parametrize("seed", range(20))
def test_a_person_who_tries_one_prompt_again_and_again_at_full_size_is_left_alone(seed: int):
    assert score(Signals(like_a_person(seed), alike=1.0, largest=1.0), NOW_S) < 60


def test_a_person_with_prompts_of_all_kinds_scores_little():
    found = [score(Signals(like_a_person(seed), alike=0.3, largest=0.3), NOW_S) for seed in range(20)]
    assert max(found) < 40


@pytest.mark.parametrize(
    ("signals", "least", "most"),
    [
        (Signals(), 0, 0),
        (Signals(EVERY_TEN_S[-7:], alike=1.0, largest=1.0), 0, 0),  # too few to say
        (Signals(EVERY_TEN_S), 30, 30),
        (Signals(EVERY_TEN_S, alike=1.0), 50, 50),
        (Signals(EVERY_TEN_S, alike=1.0, largest=1.0), 65, 65),
        (Signals(EVERY_TEN_S, alike=1.0, largest=1.0, newcomers=10), 95, 95),
        (Signals(EVERY_TEN_S, alike=1.0, largest=1.0, newcomers=10, places=100, listed=True), 100, 100),
        (Signals(newcomers=3, places=20), 0, 0),  # an office
        (Signals(listed=True), 40, 40),
        (Signals(newcomers=1000, places=1000, listed=True), 55, 55),  # all of it the neighbours' doing
    ],
)
def test_the_table(signals: Signals, least: int, most: int):
    assert least <= score(signals, NOW_S) <= most


def test_half_a_minute_after_its_last_job_the_worst_caller_is_let_in():
    worst = Signals(EVERY_TEN_S, 1.0, 1.0, 1000, 1000, listed=True)
    assert score(worst, NOW_S) == 100
    assert score(worst, NOW_S + 30) < 80
    assert score(worst, NOW_S + 3600) == 40  # it is still listed


numbers = st.floats(0, 1)


@given(
    st.lists(st.floats(0, 2e9), max_size=40).map(sorted),
    numbers,
    numbers,
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.booleans(),
    st.floats(0, 2e9),
)
def test_it_is_0_to_100_whatever_comes(times_s, alike, largest, newcomers, places, listed, now_s):
    assert 0 <= score(Signals(times_s, alike, largest, newcomers, places, listed), now_s) <= 100
