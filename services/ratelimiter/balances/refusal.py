"""The one decision over every limit of an account. Pure; of what refuses, the limit that frees last is told."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.ratelimiter.balances import bucket, days, leases
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.scope import Kind, Scope
from services.ratelimiter.tiers.policy import Limits

_BORROWED = 0.5  # of a request: the rest must be there


class Dimension(enum.Enum):
    """A limit that can refuse; values are the words of the wire."""

    REQUESTS = "requests"  # creating calls a minute
    COST = "cost"  # units a minute
    IN_FLIGHT = "in_flight"  # pictures that wait or run
    DAILY_IMAGES = "daily_images"  # pictures of a day in UTC
    DAILY_UNITS = "daily_units"  # units of a day in UTC
    BALANCE = "balance"  # prepaid money
    SPEND = "spend"  # money of a month, as the tenant's cap says
    TIER = "tier"  # more at once than the tier ever grants
    ADDRESS = "address"  # the ceiling of all callers without a key behind one address


@dataclass(frozen=True, slots=True)
class Denial:
    """The limit that binds. `limit` is a minute's or a day's grant, or the most at once; `available` what is left.

    Of BALANCE `limit` is what the request costs, of SPEND the cap, both in the operator's currency.
    `retry_after_s` is 0 when waiting does not help. `account` says whose limit it is; `about` what of TIER or ADDRESS:
    `units`, `pixels`, `steps`, `in_flight`, `daily_images` or `daily_units`.
    """

    dimension: Dimension
    limit: float
    available: float
    retry_after_s: float
    account: Kind = Kind.TENANT
    about: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request would take: `units` and `images` in all, `pixels` and `steps` of its largest picture."""

    units: float = 0.0
    images: int = 0
    pixels: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What could be taken at once now; None where nothing limits it."""

    units: float
    images: int | None = None
    pixels: int | None = None
    steps: int | None = None


def binding(denials: Iterable[Denial]) -> Denial | None:
    """Return the denial to tell: what never fits, else what frees last."""
    found = tuple(denials)
    never = next((denial for denial in found if denial.dimension is Dimension.TIER), None)
    return never or max(found, key=lambda denial: denial.retry_after_s, default=None)


def refusals(balance: Balance, scope: Scope, ask: Ask, now_s: float) -> Iterator[Denial]:
    """Yield every limit of an account that refuses a request now."""
    limits = scope.limits
    found = [*_never(limits, ask, _units_left(balance, limits, now_s)), *_now(balance, limits, ask, now_s)]
    for denial in found:
        ceiling = scope.kind is Kind.ADDRESS and denial.dimension is not Dimension.TIER
        dimension = Dimension.ADDRESS if ceiling else denial.dimension
        about = denial.about or (denial.dimension.value if ceiling else "")
        yield Denial(dimension, denial.limit, denial.available, denial.retry_after_s, scope.kind, about)


def room(held: Iterable[tuple[Balance, Scope]], now_s: float) -> Room:
    """Return what all accounts together would let through."""
    units, images, pixels, steps = [math.inf], [math.inf], [math.inf], [math.inf]
    for balance, scope in held:
        limits, day = scope.limits, days.reached(balance.day, now_s)
        units += [_units_left(balance, limits, now_s), _less(limits.daily_units, day.units)]
        in_flight = leases.images(balance.leases, now_s)
        images += [_less(limits.in_flight_images, in_flight), _less(limits.daily_images, day.images)]
        pixels.append(_less(limits.max_pixels, 0))
        steps.append(_less(limits.max_steps, 0))
    return Room(min(units), _whole(min(images)), _whole(min(pixels)), _whole(min(steps)))


def _now(balance: Balance, limits: Limits, ask: Ask, now_s: float) -> Iterator[Denial]:
    wait_s = _units_wait_s(balance, limits, ask.units, now_s)
    if wait_s > 0.0:
        yield Denial(Dimension.COST, limits.units.per_minute, _units_left(balance, limits, now_s), wait_s)
    wait_s = bucket.wait_s(balance.requests, limits.requests, 1.0, now_s)
    if wait_s > 0.0:
        left = max(0, math.floor(bucket.available(balance.requests, limits.requests, now_s)))
        yield Denial(Dimension.REQUESTS, limits.requests.per_minute, left, wait_s)
    yield from _in_flight(balance, limits, ask, now_s)
    day = days.reached(balance.day, now_s)
    counts = (
        (Dimension.DAILY_IMAGES, limits.daily_images, day.images, ask.images),
        (Dimension.DAILY_UNITS, limits.daily_units, day.units, ask.units),
    )
    for dimension, limit, used, asked in counts:
        if limit is not None and asked and used + asked > limit:
            yield Denial(dimension, limit, max(0.0, limit - used), days.left_s(day, now_s))


def _in_flight(balance: Balance, limits: Limits, ask: Ask, now_s: float) -> Iterator[Denial]:
    limit, used = limits.in_flight_images, leases.images(balance.leases, now_s)
    if limit is not None and ask.images and used + ask.images > limit:
        wait_s = leases.wait_s(balance.leases, used + ask.images - limit, now_s)
        yield Denial(Dimension.IN_FLIGHT, limit, max(0, limit - used), wait_s)


def _never(limits: Limits, ask: Ask, units_left: float) -> Iterator[Denial]:
    most = (
        ("pixels", limits.max_pixels, ask.pixels),
        ("steps", limits.max_steps, ask.steps),
        ("in_flight", limits.in_flight_images, ask.images),
        ("daily_images", limits.daily_images, ask.images),
        ("units", limits.units.burst, ask.units),
        ("daily_units", limits.daily_units, ask.units),
    )
    for about, limit, asked in most:
        if limit is not None and asked > limit:
            left = units_left if about.endswith("units") else limit
            yield Denial(Dimension.TIER, limit, left, 0.0, about=about)


def _units_wait_s(balance: Balance, limits: Limits, units: float, now_s: float) -> float:
    """Return the seconds until a request may begin: where the tier lends, half of it must be there."""
    if units > limits.units.burst:
        return 0.0  # told as what never fits
    needed = units * _BORROWED if limits.borrows else units
    return bucket.wait_s(balance.units, limits.units, needed, now_s)


def _units_left(balance: Balance, limits: Limits, now_s: float) -> float:
    return max(0.0, bucket.available(balance.units, limits.units, now_s))


def _less(limit: float | None, used: float) -> float:
    return math.inf if limit is None else max(0.0, limit - used)


def _whole(value: float) -> int | None:
    return None if math.isinf(value) else int(value)
