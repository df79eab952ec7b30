"""The life of reservations and the buckets under them: whatever comes in whatever order, the sums agree."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.ratelimiter import booking
from services.ratelimiter.balance import Amount, Balance, Dimension, shift
from services.ratelimiter.booking import Booking, Outcome
from services.ratelimiter.bucket import Rate
from services.ratelimiter.policy import Limits
from services.ratelimiter.reservation import TRANSITIONS, Hold, Reservation, State, Step

NOW_S = 1_700_000_000.0
LIMITS = Limits("pro", requests=Rate(60, 30), units=Rate(1000, 1000))
IDS = ("job_a", "job_b", "job_c")


def hold(reservation_id: str = "job_a", units: float = 100.0) -> Hold:
    return Hold(JobId(reservation_id), TenantId("t"), "pro", units)


def apply(before: Booking, step: Step, asked: Hold, charged: float = 0.0) -> Outcome:
    if step is Step.RESERVE:
        return booking.reserve(before, asked, LIMITS, NOW_S)
    return booking.advance(before, step, asked, LIMITS, NOW_S, charged)


MOVES = st.tuples(st.sampled_from(IDS), st.sampled_from(Step), st.integers(0, 800), st.integers(0, 800))


@given(st.lists(MOVES, max_size=40))
def test_the_buckets_hold_exactly_what_the_reservations_hold(moves: list[tuple[str, Step, int, int]]):
    balance, known, settled_unseen = Balance(), dict[str, Reservation](), 0
    for name, step, units, charged in moves:
        before = known.get(name)
        asked = before.hold if before else hold(name, units)
        outcome = apply(Booking(balance, before), step, asked, charged)
        balance = outcome.booking.balance
        if outcome.booking.reservation is not None:
            known[name] = outcome.booking.reservation
        unseen = before is None or before.state in (State.RELEASED, State.EXPIRED)
        settled_unseen += outcome.applied and step is Step.SETTLE and unseen
        assert balance.units.used == sum(r.held.units for r in known.values())
        assert balance.requests.used == sum(r.held.requests for r in known.values()) - settled_unseen


@pytest.mark.parametrize(
    ("state", "step"), [pair for pair in itertools.product(State, Step) if pair not in TRANSITIONS]
)
def test_a_step_that_is_not_in_the_table_changes_nothing(state: State, step: Step):
    held = Reservation(hold(), state, NOW_S, NOW_S, charged_units=70.0)
    balance = shift(Balance(), LIMITS, held.held, NOW_S)
    before = Booking(balance, None if state is State.FORGOTTEN else held)
    outcome = apply(before, step, hold(units=500), charged=900)
    assert outcome == Outcome(before, applied=False)


@given(st.sampled_from([step for step in Step if step is not Step.RESERVE]), st.integers(0, 900))
def test_every_step_applies_once(step: Step, charged: int):
    reserved = apply(Booking(Balance()), Step.RESERVE, hold()).booking
    once = apply(reserved, step, hold(), charged)
    twice = apply(once.booking, step, hold(), charged)
    assert once.applied
    assert not twice.applied
    assert twice.booking == once.booking


@given(st.integers(0, 30), st.integers(0, 1000), st.integers(0, 1200))
def test_a_denial_takes_nothing_in_any_dimension(requests: int, units_used: int, units: int):
    spent = shift(Balance(), LIMITS, Amount(requests, units_used), NOW_S)
    outcome = apply(Booking(spent), Step.RESERVE, hold(units=units))
    fits = requests < 30 and units_used + units <= 1000
    assert (outcome.denial is None) == fits
    if not fits:
        assert outcome.booking == Booking(spent)


@pytest.mark.parametrize(
    ("requests", "units_used", "units", "dimension", "limit", "available", "retry_after_s"),
    [
        (30, 0, 10, Dimension.REQUESTS, 60, 0, 1.0),
        (0, 1000, 10, Dimension.COST, 1000, 0, 0.6),
        (30, 1000, 500, Dimension.COST, 1000, 0, 30.0),  # both refuse: the one that frees last binds
        (30, 1000, 10, Dimension.REQUESTS, 60, 0, 1.0),
        (30, 400, 1001, Dimension.TIER, 1000, 600, 0),  # no waiting helps
    ],
)
def test_the_limit_that_frees_last_binds(requests, units_used, units, dimension, limit, available, retry_after_s):
    spent = shift(Balance(), LIMITS, Amount(requests, units_used), NOW_S)
    denial = apply(Booking(spent), Step.RESERVE, hold(units=units)).denial
    assert denial is not None
    assert (denial.dimension, denial.limit, denial.available) == (dimension, limit, available)
    assert denial.retry_after_s == pytest.approx(retry_after_s)


def test_what_the_ledger_holds_counts_before_what_a_late_call_carries():
    reserved = apply(Booking(Balance()), Step.RESERVE, hold(units=100)).booking
    released = apply(reserved, Step.RELEASE, hold(units=999)).booking
    assert released.balance.units.used == 0
    assert released.reservation is not None
    assert released.reservation.hold.units == 100
