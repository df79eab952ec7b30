"""Makes what was measured of classes of requests never fall from a class to one that it is within. Pure.

Where two contradict that, both get their average, by how many measurements each has; and so on a few times over. What
is left of contradictions then is taken away by the middle between the largest below and the smallest above.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from libs.generation.work import Bucket

_ROUNDS = 8

Measured = Mapping[Bucket, tuple[float, int]]  # ratio above 0, and of how many measurements
Pairs = Sequence[tuple[int, int]]  # places of a class and of one that it is within


def orderly(measured: Measured) -> dict[Bucket, float]:
    """Return ratios near the measured ones, in order."""
    by_kind: dict[str, list[Bucket]] = defaultdict(list)
    for bucket in measured:
        by_kind[bucket.kind].append(bucket)
    found: dict[Bucket, float] = {}
    for buckets in by_kind.values():
        values, weights = [math.log(measured[each][0]) for each in buckets], [measured[each][1] for each in buckets]
        ordered = _in_order(values, weights, _pairs(buckets))
        found.update(zip(buckets, map(math.exp, ordered), strict=True))
    return found


def _pairs(buckets: Sequence[Bucket]) -> Pairs:
    shapes = [(place, each.size, each.steps) for place, each in enumerate(buckets)]
    return [
        (low, high)
        for low, size, steps in shapes
        for high, larger, longer in shapes
        if size <= larger and steps <= longer and low != high
    ]


def _in_order(values: list[float], weights: Sequence[int], pairs: Pairs) -> list[float]:
    for _ in range(_ROUNDS):
        wrong = [(low, high) for low, high in pairs if values[low] > values[high]]
        if not wrong:
            return values
        for low, high in wrong:
            if values[low] > values[high]:
                share = weights[high] / (weights[low] + weights[high])
                values[low] = values[high] = values[low] + share * (values[high] - values[low])
    return _between(values, pairs)


def _between(values: Sequence[float], pairs: Pairs) -> list[float]:
    least, most = list(values), list(values)
    for low, high in pairs:
        least[high], most[low] = max(least[high], values[low]), min(most[low], values[high])
    return [(below + above) / 2.0 for below, above in zip(least, most, strict=True)]
