"""The life of reservations and the buckets under them: whatever comes in whatever order, the sums agree."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.ratelimiter.balances import booking
from services.ratelimiter.balances.balance import Amount, Balance, shift
from services.ratelimiter.balances.booking import Booking, Move, Outcome
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.balances.causes import Charge
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.reservation import TRANSITIONS, Hold, Reservation, State, Step
from services.ratelimiter.balances.scope import scopes_of
from services.ratelimiter.tiers.policy import Limits

NOW_S = 1_700_000_000.0
LIMITS = Limits("pro", requests=Rate(60, 30), units=Rate(1000, 1000))
SCOPES = scopes_of(TenantId("t"), LIMITS)
ACCOUNT = SCOPES[0].account
IDS = ("job_a", "job_b", "job_c")


def hold(reservation_id: str = "job_a", units: float = 100.0) -> Hold:
    return Hold(JobId(reservation_id), TenantId("t"), "pro", units)


def booked(balance: Balance, *reservations: Reservation) -> Booking:
    return Booking({ACCOUNT: balance}, {each.hold.reservation_id: each for each in reservations})


def apply(before: Booking, step: Step, asked: Hold, charged: float = 0.0) -> Outcome:
    return booking.apply(before, Move(step, asked, SCOPES, Charge(charged)), NOW_S)


MOVES = st.tuples(st.sampled_from(IDS), st.sampled_from(Step), st.integers(0, 800), st.integers(0, 800))


@given(st.lists(MOVES, max_size=40))
def test_the_account_holds_exactly_what_the_reservations_hold(moves: list[tuple[str, Step, int, int]]):
    before, settled_unseen = booked(Balance()), 0
    for name, step, units, charged in moves:
        known = before.reservations.get(JobId(name))
        outcome = apply(before, step, known.hold if known else hold(name, units), charged)
        before = outcome.booking
        unseen = known is None or known.state in (State.RELEASED, State.EXPIRED)
        settled_unseen += outcome.applied and step is Step.SETTLE and unseen
        held = [each.held for each in before.reservations.values()]
        balance = before.balances[ACCOUNT]
        assert balance.units.used == balance.day.units == sum(each.units for each in held)
        assert balance.day.images == sum(each.images for each in held)
        assert balance.requests.used == sum(each.requests for each in held) - settled_unseen


@pytest.mark.parametrize(
    ("state", "step"), [pair for pair in itertools.product(State, Step) if pair not in TRANSITIONS]
)
def test_a_step_that_is_not_in_the_table_changes_nothing(state: State, step: Step):
    held = Reservation(hold(), state, NOW_S, NOW_S, charged_units=70.0)
    balance = shift(Balance(), LIMITS, held.held, NOW_S)
    before = booked(balance) if state is State.FORGOTTEN else booked(balance, held)
    outcome = apply(before, step, hold(units=500), charged=900)
    assert outcome == Outcome(before, NOW_S, applied=False)


@given(st.sampled_from([step for step in Step if step is not Step.RESERVE]), st.integers(0, 900))
def test_every_step_applies_once(step: Step, charged: int):
    reserved = apply(booked(Balance()), Step.RESERVE, hold()).booking
    once = apply(reserved, step, hold(), charged)
    twice = apply(once.booking, step, hold(), charged)
    assert once.applied
    assert not twice.applied
    assert twice.booking == once.booking


@given(st.integers(0, 30), st.integers(0, 1000), st.integers(0, 1200))
def test_a_denial_takes_nothing_in_any_dimension(requests: int, units_used: int, units: int):
    spent = shift(Balance(), LIMITS, Amount(requests, units_used), NOW_S)
    outcome = apply(booked(spent), Step.RESERVE, hold(units=units))
    fits = requests < 30 and units_used + units <= 1000
    assert (outcome.denial is None) == fits
    if not fits:
        assert outcome.booking == booked(spent)


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
    denial = apply(booked(spent), Step.RESERVE, hold(units=units)).denial
    assert denial is not None
    assert (denial.dimension, denial.limit, denial.available) == (dimension, limit, available)
    assert denial.retry_after_s == pytest.approx(retry_after_s)


def test_what_the_ledger_holds_counts_before_what_a_late_call_carries():
    reserved = apply(booked(Balance()), Step.RESERVE, hold(units=100)).booking
    released = apply(reserved, Step.RELEASE, hold(units=999)).booking
    assert released.balances[ACCOUNT].units.used == 0
    assert released.reservations[JobId("job_a")].hold.units == 100
