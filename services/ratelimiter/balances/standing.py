"""What is used of each limit of each account, as its owner is told. Pure.

Whole numbers, rounded against the owner, so that they agree with the headers; more used than there is, is debt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.ratelimiter.balances import bucket, days, leases
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.bucket import Fill, Rate
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.scope import Kind, Scope


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit of one account: `whose` is `tenant`, `key`, `address`, `newcomers` or `network`.

    `resets_s` (Unix seconds) is when all of it is there again, None where time alone does not free it.
    """

    dimension: Dimension
    whose: str
    limit: float
    used: float
    remaining: float
    per_minute: float | None = None
    resets_s: float | None = None


def standings(held: Iterable[tuple[Balance, Scope]], now_s: float) -> Iterator[Standing]:
    """Yield every limit of every account that a caller's request touches."""
    for balance, scope in held:
        if scope.kind is Kind.ADDRESS:
            yield from _of_day(balance, scope, now_s, Dimension.ADDRESS)
            continue
        yield _of_rate(Dimension.REQUESTS, scope, scope.limits.requests, balance.requests, now_s)
        yield _of_rate(Dimension.COST, scope, scope.limits.units, balance.units, now_s)
        yield from _in_flight(balance, scope, now_s)
        yield from _of_day(balance, scope, now_s, Dimension.DAILY_IMAGES)


def _of_rate(dimension: Dimension, scope: Scope, rate: Rate, fill: Fill, now_s: float) -> Standing:
    used = math.ceil(bucket.drained(fill, rate, now_s).used)
    remaining = max(0, math.floor(bucket.available(fill, rate, now_s)))
    resets_s = now_s + bucket.full_in_s(fill, rate, now_s)
    return Standing(dimension, scope.whose, rate.burst, used, remaining, rate.per_minute, resets_s)


def _in_flight(balance: Balance, scope: Scope, now_s: float) -> Iterator[Standing]:
    most, used = scope.limits.in_flight_images, leases.images(balance.leases, now_s)
    if most is not None:
        yield Standing(Dimension.IN_FLIGHT, scope.whose, most, used, max(0, most - used))


def _of_day(balance: Balance, scope: Scope, now_s: float, images: Dimension) -> Iterator[Standing]:
    day = days.reached(balance.day, now_s)
    counted = (
        (images, scope.limits.daily_images, day.images),
        (Dimension.DAILY_UNITS, scope.limits.daily_units, day.units),
    )
    for dimension, most, used in counted:
        if most is not None:
            left = max(0, math.floor(most - used))
            yield Standing(dimension, scope.whose, most, math.ceil(used), left, None, now_s + days.left_s(day, now_s))
