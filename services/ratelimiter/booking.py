"""One step of one reservation and what it does to the tenant's buckets. Pure; a ledger gives it a transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.ratelimiter import balance as balances
from services.ratelimiter.balance import Amount, Balance, Denial
from services.ratelimiter.policy import Limits
from services.ratelimiter.reservation import TRANSITIONS, Hold, Reservation, State, Step


@dataclass(frozen=True, slots=True)
class Booking:
    """What a ledger reads and writes in one transaction."""

    balance: Balance
    reservation: Reservation | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The booking after a step; `applied` is False when the step changed nothing, as a repetition does."""

    booking: Booking
    applied: bool
    denial: Denial | None = None


def reserve(booking: Booking, hold: Hold, limits: Limits, now_s: float) -> Outcome:
    """Take one request and the units together, or nothing. A reservation that stands is the answer of its repetition."""
    if _target(booking.reservation, Step.RESERVE) is None:
        return Outcome(booking, applied=False)
    refused = balances.denial(booking.balance, limits, hold.units, now_s)
    if refused is not None:
        return Outcome(booking, applied=False, denial=refused)
    made = Reservation(hold, State.TENTATIVE, reserved_s=now_s, changed_s=now_s)
    return Outcome(Booking(balances.shift(booking.balance, limits, made.held, now_s), made), applied=True)


def advance(
    booking: Booking, step: Step, hold: Hold, limits: Limits, now_s: float, charged_units: float = 0.0
) -> Outcome:
    """Apply any other step. What the ledger holds counts before what the call carries in `hold`."""
    target = _target(booking.reservation, step)
    if target is None:
        return Outcome(booking, applied=False)
    before = booking.reservation or Reservation(hold, State.FORGOTTEN, reserved_s=now_s, changed_s=now_s)
    after = replace(before, state=target, changed_s=now_s, charged_units=charged_units)
    # A settlement is no request: that one was counted when it came.
    requests = 0.0 if step is Step.SETTLE else after.held.requests - before.held.requests
    moved = Amount(requests, after.held.units - before.held.units)
    return Outcome(Booking(balances.shift(booking.balance, limits, moved, now_s), after), applied=True)


def _target(reservation: Reservation | None, step: Step) -> State | None:
    state = State.FORGOTTEN if reservation is None else reservation.state
    return TRANSITIONS.get((state, step))
