"""Every limit header of an answer, in one place: the door and the decision both send these.

`limit` is the quota of the window that IETF's `RateLimit-Policy` names (a minute, or the time a whole burst takes
to come back when that is longer), so what remains never exceeds it. Where several accounts count, each dimension is
told of the one with the least left. The plain `x-ratelimit-*` are those of requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.ratelimiter.balances import bucket, days, leases
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.bucket import Fill, Rate
from services.ratelimiter.balances.refusal import Denial
from services.ratelimiter.balances.scope import Scope

Header = tuple[str, str]
Held = Sequence[tuple[Balance, Scope]]
_WORTH_WAITING_S = 60.0  # clients that retry by themselves wait no longer


def limit_headers(held: Held, now_s: float, denial: Denial | None = None) -> Sequence[Header]:
    """Return names in lower case and values, for all accounts that a request touches."""
    requests = _least([_of_rate("rpm", s.limits.requests, b.requests, now_s) for b, s in held])
    cost = _least([_of_rate("cost", s.limits.units, b.units, now_s, "gpu-units") for b, s in held])
    concurrent = _least(_concurrent(held, now_s))
    images, units = _least(_daily_images(held, now_s)), _least(_daily_units(held, now_s))
    shown = [item for item in (requests, cost, concurrent, images, units) if item is not None]
    named = (("requests", requests), ("cost", cost), ("concurrent", concurrent), ("daily", images or units))
    return [
        *(header for name, item in named if item is not None for header in item.named(name)),
        *(_plain(requests, now_s) if requests else ()),
        ("ratelimit-policy", ", ".join(item.policy() for item in shown)),
        ("ratelimit", ", ".join(item.state() for item in shown)),
        *again(denial),
    ]


def duration(seconds: float) -> str:
    """Return whole seconds, rounded up, like `38s`, `6m0s` or `1h0m0s`."""
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


@dataclass(frozen=True, slots=True)
class _Shown:
    """One dimension in whole numbers; no window and no reset where time does not free it."""

    name: str
    limit: int
    remaining: int
    window_s: int | None = None
    reset_s: float | None = None
    unit: str = ""

    def named(self, name: str) -> Iterator[Header]:
        yield f"x-ratelimit-limit-{name}", str(self.limit)
        yield f"x-ratelimit-remaining-{name}", str(self.remaining)
        if self.reset_s is not None:
            yield f"x-ratelimit-reset-{name}", duration(self.reset_s)

    def policy(self) -> str:
        window = "" if self.window_s is None else f";w={self.window_s}"
        unit = f';qu="{self.unit}"' if self.unit else ""
        return f'"{self.name}";q={self.limit}{window}{unit}'

    def state(self) -> str:
        reset = "" if self.reset_s is None else f";t={math.ceil(self.reset_s)}"
        return f'"{self.name}";r={self.remaining}{reset}'


def _of_rate(name: str, rate: Rate, fill: Fill, now_s: float, unit: str = "") -> _Shown:
    remaining = max(0, math.floor(bucket.available(fill, rate, now_s)))
    reset_s = bucket.full_in_s(fill, rate, now_s)
    return _Shown(name, math.floor(rate.quota), remaining, math.ceil(rate.window_s), reset_s, unit)


def _concurrent(held: Held, now_s: float) -> list[_Shown]:
    counted = ((s.limits.in_flight_images, leases.images(b.leases, now_s)) for b, s in held)
    unit = "concurrent-images"
    return [_Shown("concurrent", most, max(0, most - used), unit=unit) for most, used in counted if most is not None]


def _daily_images(held: Held, now_s: float) -> list[_Shown]:
    found = ((s.limits.daily_images, days.reached(b.day, now_s)) for b, s in held)
    return [
        _Shown("daily", most, max(0, most - day.images), days.DAY_S, days.left_s(day, now_s), "images")
        for most, day in found
        if most is not None
    ]


def _daily_units(held: Held, now_s: float) -> list[_Shown]:
    found = ((s.limits.daily_units, days.reached(b.day, now_s)) for b, s in held)
    return [
        _Shown(
            "daily-units",
            math.floor(most),
            max(0, math.floor(most - day.units)),
            days.DAY_S,
            days.left_s(day, now_s),
            "gpu-units",
        )
        for most, day in found
        if most is not None
    ]


def _least(items: list[_Shown]) -> _Shown | None:
    return min(items, key=lambda item: item.remaining, default=None)


def _plain(requests: _Shown, now_s: float) -> Iterator[Header]:
    yield "x-ratelimit-limit", str(requests.limit)
    yield "x-ratelimit-remaining", str(requests.remaining)
    yield "x-ratelimit-reset", str(math.ceil(now_s + (requests.reset_s or 0.0)))


def again(denial: Denial | None) -> Iterator[Header]:
    """Return the headers that only a refusal has: when the same request will be taken."""
    if denial is None:
        return
    if denial.retry_after_s > 0:
        yield "retry-after", str(math.ceil(denial.retry_after_s))
        yield "retry-after-ms", str(math.ceil(denial.retry_after_s * 1000))
    yield "x-should-retry", "true" if 0 < denial.retry_after_s <= _WORTH_WAITING_S else "false"
