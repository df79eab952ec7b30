"""What stands in one account: two buckets, the leases of what is in flight, the counters of the day. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from libs.ids import JobId
from services.ratelimiter.balances import bucket, days, leases
from services.ratelimiter.balances.bucket import Fill
from services.ratelimiter.balances.days import Day
from services.ratelimiter.balances.leases import Lease
from services.ratelimiter.tiers.policy import Limits


@dataclass(frozen=True, slots=True)
class Amount:
    """What is taken or given back together; `images` and `day_units` count in the day."""

    requests: float = 0.0
    units: float = 0.0
    images: int = 0
    day_units: float = 0.0


@dataclass(frozen=True, slots=True)
class Balance:
    """One account. `refills` counts how often something was taken from a bucket that had wholly drained.

    From `empty_from_s` (Unix seconds) on it is as good as `Balance()`, and may be forgotten.
    """

    requests: Fill = field(default_factory=Fill)
    units: Fill = field(default_factory=Fill)
    day: Day = field(default_factory=Day)
    leases: tuple[Lease, ...] = ()
    refills: int = 0
    empty_from_s: float = 0.0


def shift(balance: Balance, limits: Limits, amount: Amount, now_s: float, of_day: int | None = None) -> Balance:
    """Charge what is positive (debt allowed) and give back what is negative; `of_day` is today unless said."""
    day = days.number_of(now_s) if of_day is None else of_day
    was_empty = bucket.drained(balance.units, limits.units, now_s).used <= 0.0
    moved = replace(
        balance,
        requests=_shifted(balance.requests, limits.requests, amount.requests, now_s),
        units=_shifted(balance.units, limits.units, amount.units, now_s),
        day=days.add(balance.day, day, amount.images, amount.day_units, now_s),
        refills=balance.refills + (was_empty and amount.units > 0.0),
    )
    return _dated(moved, limits, now_s)


def lease(balance: Balance, limits: Limits, new: Lease, now_s: float) -> Balance:
    """Give a job its place, or its place for longer; where nothing limits pictures in flight none is kept."""
    kept = leases.without(leases.live(balance.leases, now_s), new.reservation_id)
    if limits.in_flight_images is not None and new.images:
        kept = (*kept, new)
    return _dated(replace(balance, leases=kept), limits, now_s)


def vacate(balance: Balance, reservation_id: JobId) -> Balance:
    """Free the place of a job."""
    return replace(balance, leases=leases.without(balance.leases, reservation_id))


def _dated(balance: Balance, limits: Limits, now_s: float) -> Balance:
    seen = balance.day.images or balance.day.units or balance.day.blocks
    empty_from_s = max(
        now_s + bucket.full_in_s(balance.requests, limits.requests, now_s),
        now_s + bucket.full_in_s(balance.units, limits.units, now_s),
        now_s + days.left_s(balance.day, now_s) if seen else now_s,
        *(kept.until_s for kept in balance.leases),
    )
    return replace(balance, empty_from_s=empty_from_s)


def _shifted(fill: Fill, rate: bucket.Rate, amount: float, now_s: float) -> Fill:
    if amount < 0.0:
        return bucket.give_back(fill, rate, -amount, now_s)
    return bucket.charge(fill, rate, amount, now_s)
