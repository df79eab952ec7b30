"""Makes what was measured of classes of requests never fall from a class to one that it is within. Pure.

Where two contradict that, both get their average, by how many measurements each has; and so on a few times over. What
is left of contradictions then is taken away by the middle between the largest below and the smallest above.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from libs.generation.work import Bucket

_ROUNDS = 8

Measured = Mapping[Bucket, tuple[float, int]]  # ratio above 0, and of how many measurements
Ratios = dict[Bucket, float]


def orderly(measured: Measured) -> Ratios:
    """Return ratios near the measured ones, in order."""
    by_kind: dict[str, dict[Bucket, tuple[float, int]]] = defaultdict(dict)
    for bucket, found in measured.items():
        by_kind[bucket.kind][bucket] = found
    return {bucket: ratio for of_kind in by_kind.values() for bucket, ratio in _of_kind(of_kind).items()}


def _of_kind(measured: Measured) -> Ratios:
    ratios = {bucket: ratio for bucket, (ratio, _) in measured.items()}
    pairs = [(low, high) for low in measured for high in measured if low != high and low.within(high)]
    for _ in range(_ROUNDS):
        if not any(ratios[low] > ratios[high] for low, high in pairs):
            break
        for low, high in pairs:
            if ratios[low] > ratios[high]:
                ratios[low] = ratios[high] = _middle(ratios, measured, low, high)
    return _between(ratios)


def _middle(ratios: Ratios, measured: Measured, low: Bucket, high: Bucket) -> float:
    weight = measured[high][1] / (measured[low][1] + measured[high][1])
    return math.exp((1.0 - weight) * math.log(ratios[low]) + weight * math.log(ratios[high]))


def _between(ratios: Ratios) -> Ratios:
    found = {}
    for bucket, own in ratios.items():
        least = max(ratio for other, ratio in ratios.items() if other.within(bucket))
        most = min(ratio for other, ratio in ratios.items() if bucket.within(other))
        found[bucket] = own if least <= own <= most else math.sqrt(least * most)
    return found
