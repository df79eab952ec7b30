"""Every limit header of an answer, in one place: the door and the decision both send these.

`limit` is the quota of the window that IETF's `RateLimit-Policy` names (a minute, or the time a whole burst takes
to come back when that is longer), so what remains never exceeds it. The plain `x-ratelimit-*` are those of requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.ratelimiter import bucket
from services.ratelimiter.balance import Balance, Denial
from services.ratelimiter.bucket import Fill, Rate
from services.ratelimiter.policy import Limits

Header = tuple[str, str]


def limit_headers(limits: Limits, balance: Balance, now_s: float, denial: Denial | None = None) -> Sequence[Header]:
    """Return names in lower case and values."""
    requests = _Shown(limits.requests, balance.requests, now_s)
    cost = _Shown(limits.units, balance.units, now_s)
    headers = [
        *requests.named("requests"),
        *cost.named("cost"),
        ("x-ratelimit-limit", str(requests.limit)),
        ("x-ratelimit-remaining", str(requests.remaining)),
        ("x-ratelimit-reset", str(math.ceil(now_s + requests.reset_s))),
        ("ratelimit-policy", f'{requests.policy("rpm")}, {cost.policy("cost")};qu="gpu-units"'),
        ("ratelimit", f"{requests.state('rpm')}, {cost.state('cost')}"),
    ]
    if denial is not None and denial.retry_after_s > 0:
        headers.append(("retry-after", str(math.ceil(denial.retry_after_s))))
    return headers


def duration(seconds: float) -> str:
    """Return whole seconds, rounded up, like `38s`, `6m0s` or `1h0m0s`."""
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


class _Shown:
    """One dimension in whole numbers."""

    def __init__(self, rate: Rate, fill: Fill, now_s: float) -> None:
        self.limit = math.floor(rate.quota)
        self.window_s = math.ceil(rate.window_s)
        self.remaining = max(0, math.floor(bucket.available(fill, rate, now_s)))
        self.reset_s = bucket.full_in_s(fill, rate, now_s)

    def named(self, name: str) -> list[Header]:
        return [
            (f"x-ratelimit-limit-{name}", str(self.limit)),
            (f"x-ratelimit-remaining-{name}", str(self.remaining)),
            (f"x-ratelimit-reset-{name}", duration(self.reset_s)),
        ]

    def policy(self, name: str) -> str:
        return f'"{name}";q={self.limit};w={self.window_s}'

    def state(self, name: str) -> str:
        return f'"{name}";r={self.remaining};t={math.ceil(self.reset_s)}'
