"""What a tenant has spent in every dimension, and the one decision over all of them. Pure."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

from services.ratelimiter import bucket
from services.ratelimiter.bucket import Fill
from services.ratelimiter.policy import Limits


class Dimension(enum.Enum):
    """A limit that can refuse; values are the words of the wire."""

    REQUESTS = "requests"  # creating calls a minute
    COST = "cost"  # units a minute
    TIER = "tier"  # more units at once than the tier ever grants


@dataclass(frozen=True, slots=True)
class Denial:
    """The limit that binds: of those that refuse, the one that frees last.

    `limit` is a minute's grant, for TIER the most that fits at once; `available` is what is left now;
    `retry_after_s` is 0 when waiting does not help.
    """

    dimension: Dimension
    limit: float
    available: float
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Amount:
    """What is taken or given back together."""

    requests: float = 0.0
    units: float = 0.0


@dataclass(frozen=True, slots=True)
class Balance:
    """The buckets of one tenant."""

    requests: Fill = field(default_factory=Fill)
    units: Fill = field(default_factory=Fill)


def denial(balance: Balance, limits: Limits, units: float, now_s: float) -> Denial | None:
    """Return why one request of `units` does not fit now, or None."""
    left = max(0.0, bucket.available(balance.units, limits.units, now_s))
    if units > limits.units.burst:
        return Denial(Dimension.TIER, limits.units.burst, left, 0.0)
    requests_left = max(0.0, bucket.available(balance.requests, limits.requests, now_s))
    requests_wait_s = bucket.wait_s(balance.requests, limits.requests, 1.0, now_s)
    units_wait_s = bucket.wait_s(balance.units, limits.units, units, now_s)
    if requests_wait_s <= 0.0 and units_wait_s <= 0.0:
        return None
    if requests_wait_s > units_wait_s:
        return Denial(Dimension.REQUESTS, limits.requests.per_minute, math.floor(requests_left), requests_wait_s)
    return Denial(Dimension.COST, limits.units.per_minute, left, units_wait_s)


def shift(balance: Balance, limits: Limits, amount: Amount, now_s: float) -> Balance:
    """Charge what is positive (debt allowed) and give back what is negative."""
    return Balance(
        _shifted(balance.requests, limits.requests, amount.requests, now_s),
        _shifted(balance.units, limits.units, amount.units, now_s),
    )


def is_untouched(balance: Balance, limits: Limits, now_s: float) -> bool:
    """Whether all has drained, so that nothing is lost by forgetting it."""
    fills = ((balance.requests, limits.requests), (balance.units, limits.units))
    return all(bucket.drained(fill, rate, now_s).used <= 0.0 for fill, rate in fills)


def _shifted(fill: Fill, rate: bucket.Rate, amount: float, now_s: float) -> Fill:
    if amount < 0.0:
        return bucket.give_back(fill, rate, -amount, now_s)
    return bucket.charge(fill, rate, amount, now_s)
