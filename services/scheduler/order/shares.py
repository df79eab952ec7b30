"""What the tiers weigh against each other, and how long a job of each should wait at most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from libs import settings

TIERS = ("enterprise", "pro", "payg", "free", "anonymous")  # heaviest first; any other tier weighs 1
WEIGHTS = ("enterprise=16", "pro=8", "payg=4", "free=2", "anonymous=1")
WAITS_S = ("enterprise=60", "pro=300", "payg=900", "free=3600", "anonymous=3600")


def read(pairs: Sequence[str]) -> dict[str, float]:
    """Return `tier=number` pairs as numbers; raises ValueError naming all pairs that are wrong."""
    return settings.named_numbers(pairs, f"TIER=NUMBER with the tiers {', '.join(TIERS)}", names=TIERS)


def _defaults(pairs: Sequence[str]) -> Mapping[str, float]:
    return MappingProxyType(read(pairs))


def rank(tier: str) -> int:
    """Return a tier's number in the order of service, from 0; unknown tiers come last."""
    return TIERS.index(tier) if tier in TIERS else len(TIERS)


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
