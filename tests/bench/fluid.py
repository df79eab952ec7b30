"""The ideal that fair queueing is measured against: tiers and tenants served side by side by weight, like a fluid.

Generalised processor sharing with everything queued at the start, worked out exactly by progressive filling: rates hold
until the next tenant has had all it wants, then they are shared out anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libs.ids import TenantId


@dataclass(slots=True)
class Share:
    """What a tenant wants in units, and what it had by when: a line with corners at `times`."""

    tier: str
    wants: float
    times: list[float] = field(default_factory=lambda: [0.0])
    had: list[float] = field(default_factory=lambda: [0.0])

    def at(self, time: float) -> float:
        """Return what it had by a moment."""
        return _between(self.times, self.had, time)

    def when(self, units: float) -> float:
        """Return the moment at which it had so many units."""
        return _between(self.had, self.times, units)


def fill(wants: Mapping[TenantId, tuple[str, float]], weights: Mapping[str, float], speed: float) -> dict[str, Share]:
    """Serve everybody; `wants` has tier and units of each tenant, `speed` is in units a second."""
    shares = {str(name): Share(tier, units) for name, (tier, units) in wants.items()}
    left, now = {name: share.wants for name, share in shares.items()}, 0.0
    while left:
        rates = _rates({name: shares[name].tier for name in left}, weights, speed)
        step = min(units / rates[name] for name, units in left.items())
        now += step
        for name, units in list(left.items()):
            left[name] = units - step * rates[name]
            if left[name] <= 1e-6:
                del left[name]
            shares[name].times.append(now)
            shares[name].had.append(shares[name].wants - left.get(name, 0.0))
    return shares


def _rates(tiers: Mapping[str, str], weights: Mapping[str, float], speed: float) -> dict[str, float]:
    members: dict[str, int] = {}
    for tier in tiers.values():
        members[tier] = members.get(tier, 0) + 1
    whole = sum(weights[tier] for tier in members)
    return {name: speed * weights[tier] / whole / members[tier] for name, tier in tiers.items()}


def _between(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    right = bisect_left(xs, x)
    if right == 0 or right == len(xs):
        return ys[min(right, len(ys) - 1)]
    part = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + part * (ys[right] - ys[right - 1])
