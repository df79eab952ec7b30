"""What the tiers weigh against each other, and how long a job of each should wait at most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

TIERS = ("enterprise", "pro", "payg", "free", "anonymous")  # heaviest first; any other tier weighs 1
WEIGHTS = ("enterprise=16", "pro=8", "payg=4", "free=2", "anonymous=1")
WAITS_S = ("enterprise=60", "pro=300", "payg=900", "free=3600", "anonymous=3600")


def read(pairs: Sequence[str]) -> dict[str, float]:
    """Return `tier=number` pairs as numbers; raises ValueError naming all pairs that are wrong."""
    found: dict[str, float] = {}
    wrong = []
    for pair in pairs:
        tier, _, number = pair.partition("=")
        value = _number(number)
        if tier.strip() not in TIERS or tier.strip() in found or value is None:
            wrong.append(pair)
        else:
            found[tier.strip()] = value
    if wrong:
        raise ValueError(f"must be TIER=NUMBER once for each of {', '.join(TIERS)}, above 0: {', '.join(wrong)}")
    return found


def complaint(pairs: Sequence[str]) -> str | None:
    """Check pairs for the settings."""
    try:
        read(pairs)
    except ValueError as error:
        return str(error)
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 < value < math.inf else None


def _defaults(pairs: Sequence[str]) -> Mapping[str, float]:
    return MappingProxyType(read(pairs))


@dataclass(frozen=True, slots=True)
class Shares:
    """Weights of the tiers, and the waits in seconds after which their jobs may use the lane."""

    weights: Mapping[str, float] = field(default_factory=lambda: _defaults(WEIGHTS))
    waits_s: Mapping[str, float] = field(default_factory=lambda: _defaults(WAITS_S))

    def weight(self, tier: str) -> float:
        """Return what a tier weighs."""
        return self.weights.get(tier, 1.0)

    def wait_s(self, tier: str) -> float:
        """Return how long a job of a tier should wait at most."""
        return self.waits_s.get(tier, max(self.waits_s.values(), default=math.inf))


def given(weights: Sequence[str], waits_s: Sequence[str]) -> Shares:
    """Return shares from settings; tiers that are not named keep their defaults."""
    return Shares({**read(WEIGHTS), **read(weights)}, {**read(WAITS_S), **read(waits_s)})
