"""One step of one reservation and what it does to every account it stands in. Pure.

A ledger loads the booking, hands it to one of these with its own time, and stores what comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from libs.ids import JobId, TenantId
from services.ratelimiter.balances import balance as balances
from services.ratelimiter.balances import bucket, causes, days, refusal
from services.ratelimiter.balances.balance import Amount, Balance
from services.ratelimiter.balances.causes import Cause, Charge
from services.ratelimiter.balances.leases import Lease
from services.ratelimiter.balances.refusal import Denial
from services.ratelimiter.balances.reservation import LIVE, TRANSITIONS, Hold, Mark, Reservation, State, Step
from services.ratelimiter.balances.scope import AccountId, Scope

LEASE_S = 120.0


@dataclass(frozen=True, slots=True)
class Touched:
    """What a ledger loads and stores in one transaction."""

    tenant_id: TenantId
    accounts: tuple[AccountId, ...]
    reservation_ids: tuple[JobId, ...] = ()


@dataclass(frozen=True, slots=True)
class Booking:
    """What a ledger holds of it; an account that is missing is empty, a reservation that is missing is forgotten."""

    balances: Mapping[AccountId, Balance]
    reservations: Mapping[JobId, Reservation]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The booking after a step, at the ledger's time; `applied` is False when nothing changed, as by a repetition.

    `unknown` names the reservations that a renewal did not find.
    """

    booking: Booking
    now_s: float
    applied: bool
    denial: Denial | None = None
    unknown: tuple[JobId, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """A step with all it needs; `scopes` are the accounts of `hold` with the limits in force.

    `reserved_s` is when it was reserved, for a ledger that has forgotten it; None is now.
    """

    step: Step
    hold: Hold
    scopes: tuple[Scope, ...]
    charge: Charge = causes.NOTHING
    reserved_s: float | None = None
    lease_s: float = LEASE_S

    @property
    def touched(self) -> Touched:
        """Say what it changes."""
        accounts = tuple(scope.account for scope in self.scopes)
        return Touched(self.hold.tenant_id, accounts, (self.hold.reservation_id,))


def apply(booking: Booking, move: Move, now_s: float) -> Outcome:
    """Take all or nothing for RESERVE, else advance. What the ledger holds counts before what the call carries."""
    known = booking.reservations.get(move.hold.reservation_id)
    target = TRANSITIONS.get((known.state if known else State.FORGOTTEN, move.step))
    if target is None:
        return Outcome(booking, now_s, applied=False)
    if move.step is Step.RESERVE:
        known = None  # one that was given back begins anew
        denial = refused(booking, move, now_s)
        if denial is not None:
            return Outcome(booking, now_s, applied=False, denial=denial)
    return _moved(booking, move, known, target, now_s)


def refused(booking: Booking, move: Move, now_s: float) -> Denial | None:
    """Return why a reservation would not be taken now, in whichever account."""
    found = (
        denial
        for scope in move.scopes
        for denial in refusal.refusals(booking.balances.get(scope.account, Balance()), scope, move.hold.ask, now_s)
    )
    return refusal.binding(found)


def renew(booking: Booking, touched: Touched, scopes: tuple[Scope, ...], lease_s: float, now_s: float) -> Outcome:
    """Lease the places of reservations that stand for longer; those that do not stand here are named."""
    held, unknown = dict(booking.balances), list[JobId]()
    for reservation_id in touched.reservation_ids:
        known = booking.reservations.get(reservation_id)
        if known is None or known.state in (State.RELEASED, State.EXPIRED):
            unknown.append(reservation_id)
        elif known.state in LIVE:
            _lease(held, scopes, known, lease_s, now_s)
    return Outcome(replace(booking, balances=held), now_s, applied=held != booking.balances, unknown=tuple(unknown))


def put_back(booking: Booking, scopes: tuple[Scope, ...], amount: Amount, at_s: float, now_s: float) -> Outcome:
    """Put earlier spending back after a loss; in order of time."""
    held = dict(booking.balances)
    for scope in scopes:
        before = held.get(scope.account, Balance())
        held[scope.account] = balances.shift(before, scope.limits, amount, at_s)
    return Outcome(replace(booking, balances=held), now_s, applied=True)


def _moved(booking: Booking, move: Move, known: Reservation | None, target: State, now_s: float) -> Outcome:
    before = known or Reservation(move.hold, State.FORGOTTEN, _reserved_s(booking, move, now_s), changed_s=now_s)
    held, touched = dict(booking.balances), [scope for scope in move.scopes if _stands_in(before, scope)]
    after = replace(before, state=target, changed_s=now_s)
    if move.step is Step.SETTLE:
        after = _charged(after, move, held)
    for scope in touched:
        held[scope.account] = _shifted(held.get(scope.account, Balance()), scope, (before, after), move, now_s)
    if target in LIVE and before.state not in LIVE:
        after = replace(after, marks=tuple(_mark(scope, held[scope.account]) for scope in touched))
    _place(held, tuple(touched), after, move.lease_s, now_s)
    reservations = {**booking.reservations, after.hold.reservation_id: after}
    return Outcome(Booking(held, reservations), now_s, applied=True)


def _reserved_s(booking: Booking, move: Move, now_s: float) -> float:
    """Return when a reservation was made; a new one never before the day that its accounts have reached."""
    if move.reserved_s is not None and move.step is not Step.RESERVE:
        return min(move.reserved_s, now_s)
    held = (booking.balances.get(scope.account, Balance()) for scope in move.scopes)
    return max(now_s, *(days.number_begins_s(balance.day.number) for balance in held))


def _stands_in(reservation: Reservation, scope: Scope) -> bool:
    if reservation.state not in LIVE:
        return True
    return any(mark.account == scope.account for mark in reservation.marks)


def _charged(after: Reservation, move: Move, held: dict[AccountId, Balance]) -> Reservation:
    """Return the reservation with its charge; of refused prompts the tenant's account keeps count."""
    charge, tenant, now_s = move.charge, move.scopes[0].account, after.changed_s
    balance = held.get(tenant, Balance())
    extra = causes.penalty(charge.cause, days.reached(balance.day, now_s).blocks)
    if charge.cause is Cause.PROMPT_BLOCKED:
        held[tenant] = replace(balance, day=days.block(balance.day, now_s))
    kept = charge.day_images(after.hold.images)
    return replace(after, charged_units=charge.units + extra, kept_images=kept)


def _shifted(
    balance: Balance, scope: Scope, change: tuple[Reservation, Reservation], move: Move, now_s: float
) -> Balance:
    before, after = change
    amount, rates = _amount(before, after, move.step), scope.limits
    since_s = before.reserved_s if before.state is State.FORGOTTEN else before.changed_s
    if amount.units < 0.0 and move.charge.is_by_client:
        amount = replace(amount, units=-min(-amount.units, _undrained(balance, scope, before, now_s)))
    elif before.state not in LIVE:  # it was taken earlier than it is written: that much has drained
        amount = replace(
            amount,
            requests=bucket.undrained(amount.requests, since_s, rates.requests, now_s),
            units=bucket.undrained(amount.units, since_s, rates.units, now_s),
        )
    return balances.shift(balance, rates, amount, now_s, days.number_of(before.reserved_s))


def _amount(before: Reservation, after: Reservation, step: Step) -> Amount:
    was, is_ = before.held, after.held
    # A settlement is no request: that one was counted when it came.
    requests = 0.0 if step is Step.SETTLE else is_.requests - was.requests
    return Amount(requests, is_.units - was.units, is_.images - was.images, is_.day_units - was.day_units)


def _undrained(balance: Balance, scope: Scope, of: Reservation, now_s: float) -> float:
    """Return what of a reservation still stands, had nobody else given anything back before."""
    mark = next((mark for mark in of.marks if mark.account == scope.account), None)
    if mark is None or mark.refills != balance.refills:
        return 0.0
    return min(of.hold.units, bucket.undrained(mark.used, of.began_s, scope.limits.units, now_s))


def _mark(scope: Scope, balance: Balance) -> Mark:
    return Mark(scope.account, balance.units.used, balance.refills)


def _place(
    held: dict[AccountId, Balance], scopes: tuple[Scope, ...], after: Reservation, lease_s: float, now_s: float
) -> None:
    if after.state in LIVE:
        _lease(held, scopes, after, lease_s, now_s)
        return
    for scope in scopes:
        held[scope.account] = balances.vacate(held[scope.account], after.hold.reservation_id)


def _lease(
    held: dict[AccountId, Balance], scopes: tuple[Scope, ...], of: Reservation, lease_s: float, now_s: float
) -> None:
    due_s = of.began_s + of.hold.units / 1000.0
    lease = Lease(of.hold.reservation_id, of.hold.images, now_s + lease_s, due_s)
    for scope in scopes:
        if _stands_in(of, scope):
            held[scope.account] = balances.lease(held.get(scope.account, Balance()), scope.limits, lease, now_s)
