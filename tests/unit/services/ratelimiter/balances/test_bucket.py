"""GCRA by its properties, over any history of takes, refunds and debts."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from services.ratelimiter.balances import bucket
from services.ratelimiter.balances.bucket import Fill, Rate

NOW_S = 1_700_000_000.0
RATES = st.builds(Rate, st.floats(0.1, 1e8), st.floats(1, 1e8))
STEPS = st.lists(st.tuples(st.floats(0, 600), st.floats(0, 1)), max_size=60)  # seconds passed, part of the burst
SLACK = 1 + 1e-6  # Unix seconds in a double are right to a quarter of a microsecond


@given(RATES, STEPS)
def test_never_admits_more_than_the_burst_and_the_rate_over_time(rate: Rate, steps: list[tuple[float, float]]):
    fill, now_s, admitted = Fill(at_s=NOW_S), NOW_S, 0.0
    for passed_s, part in steps:
        now_s += passed_s
        taken = bucket.take(fill, rate, part * rate.burst, now_s)
        if taken is not None:
            fill, admitted = taken, admitted + part * rate.burst
        assert admitted <= (rate.burst + rate.per_s * (now_s - NOW_S)) * SLACK


@given(RATES, STEPS)
def test_what_is_kept_after_refunds_stays_within_the_bound_too(rate: Rate, steps: list[tuple[float, float]]):
    fill, now_s, kept, last = Fill(at_s=NOW_S), NOW_S, 0.0, 0.0
    for index, (passed_s, part) in enumerate(steps):
        now_s += passed_s
        if index % 3 == 2:
            fill, kept, last = bucket.give_back(fill, rate, last, now_s), kept - last, 0.0
        elif (taken := bucket.take(fill, rate, part * rate.burst, now_s)) is not None:
            fill, last = taken, part * rate.burst
            kept += last
        assert kept <= (rate.burst + rate.per_s * (now_s - NOW_S)) * SLACK
        assert fill.used >= 0


@given(RATES, st.floats(0, 3), st.floats(0, 1))
def test_after_the_told_wait_it_fits_and_before_it_does_not(rate: Rate, used: float, part: float):
    fill, amount = bucket.charge(Fill(), rate, used * rate.burst, NOW_S), part * rate.burst
    wait_s = bucket.wait_s(fill, rate, amount, NOW_S)
    assert bucket.take(fill, rate, amount, NOW_S + wait_s * SLACK + 1e-3) is not None
    if wait_s > 1e-3:
        assert bucket.take(fill, rate, amount, NOW_S + wait_s * 0.99 - 1e-3) is None


def test_exact_amounts_are_not_lost_to_rounding():
    fill = Fill(at_s=NOW_S)
    for _ in range(10):
        taken = bucket.take(fill, Rate(1000, 1000), 100, NOW_S)
        assert taken is not None
        fill = taken
    assert bucket.take(fill, Rate(1000, 1000), 100, NOW_S) is None


def test_a_charge_beyond_the_burst_is_debt_that_time_pays():
    rate = Rate(60, 10)
    fill = bucket.charge(Fill(), rate, 25, NOW_S)
    assert bucket.available(fill, rate, NOW_S) == -15
    assert bucket.wait_s(fill, rate, 0, NOW_S) == 15
    assert bucket.full_in_s(fill, rate, NOW_S) == 25
    assert bucket.available(fill, rate, NOW_S + 20) == 5


def test_more_than_the_burst_never_fits():
    assert bucket.wait_s(Fill(), Rate(60, 10), 10.5, NOW_S) == math.inf


def test_a_clock_that_steps_back_gives_nothing_away():
    rate = Rate(60, 10)
    fill = bucket.charge(Fill(), rate, 10, NOW_S)
    back = bucket.charge(fill, rate, 0, NOW_S - 3600)
    assert bucket.available(back, rate, NOW_S) == 0


def test_the_quota_of_the_window_covers_the_burst():
    assert (Rate(60, 30).quota, Rate(60, 30).window_s) == (60, 60)
    assert (Rate(100, 300).quota, Rate(100, 300).window_s) == (300, 180)
