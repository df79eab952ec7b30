"""What is written down is read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.bucket import Fill
from services.ratelimiter.balances.days import Day
from services.ratelimiter.balances.leases import Lease
from services.ratelimiter.balances.reservation import Hold, Mark, Reservation, State
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers import codec

AMOUNTS = st.floats(0, 1e12)
COUNTS = st.integers(0, 1_000_000)
NAMES = st.text(max_size=20)
FILLS = st.builds(Fill, AMOUNTS, AMOUNTS)
LEASES = st.builds(Lease, NAMES.map(JobId), COUNTS, AMOUNTS, AMOUNTS)
BALANCES = st.builds(
    Balance, FILLS, FILLS, st.builds(Day, COUNTS, COUNTS, AMOUNTS, COUNTS), st.lists(LEASES).map(tuple), COUNTS, AMOUNTS
)
HOLDS = st.builds(
    Hold,
    NAMES.map(JobId),
    NAMES.map(TenantId),
    NAMES,
    AMOUNTS,
    COUNTS,
    NAMES.map(KeyId),
    NAMES,
    COUNTS,
    COUNTS,
)
MARKS = st.builds(Mark, NAMES.map(AccountId), AMOUNTS, COUNTS)
RESERVATIONS = st.builds(
    Reservation, HOLDS, st.sampled_from(State), AMOUNTS, AMOUNTS, AMOUNTS, COUNTS, st.lists(MARKS).map(tuple)
)


@given(BALANCES)
def test_a_balance(balance: Balance):
    assert codec.balance_from_json(codec.balance_to_json(balance)) == balance


@given(RESERVATIONS)
def test_a_reservation(reservation: Reservation):
    assert codec.reservation_from_json(codec.reservation_to_json(reservation).encode()) == reservation
