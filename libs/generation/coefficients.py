"""Fits what each kind of work costs to what was measured: least squares of relative errors, nothing below 0. Pure.

What was measured long ago counts less and less. Where measurements say nothing – nobody has drawn a large picture yet –
the prior does, scaled to what was measured: a few imagined jobs, small to large, that take part in every fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from libs.generation.sound import above_zero, not_below_zero
from libs.generation.work import KINDS, Work, cost, work

_KEEP = 0.998  # of the weight of what was measured, with every new measurement: half is from the last 350
_IMAGINED = tuple(work(side * side / 1e6, steps) for side in (256, 512, 1024, 2048) for steps in (1, 4, 20, 50))
_IMAGINED_WEIGHT = 2.0  # of all of them together; a measurement has 1
_SWEEPS = 60
_LEAST_PER_MP = 0.02  # of the scaled prior: whatever was measured, large pictures are not free
_FIRST, _SCALE_WEIGHT = 4, 0.02
_DOUBT = 0.5  # a relative error above it counts as if it were so large: one odd measurement must not turn the rest

# One picture of 2048² in 50 steps costs more than ten of 512² in 20, whatever was measured.
_LARGE, _TEN_SMALL = work(4.194304, 50), tuple(10.5 * amount for amount in work(0.262144, 20))
_OVERHEAD = (0, 2, 3)  # the kinds of work of which ten small pictures have more
_SIZED = (1, 4, 5)


@dataclass(slots=True)
class Coefficients:
    """The fit of one model on one class of device. Costs in milliseconds of that device."""

    prior: Work
    jobs: int = 0  # that were measured
    scale: float = 1.0  # of measured cost to the prior's
    values: list[float] = field(default_factory=list)
    products: list[list[float]] = field(default_factory=lambda: [[0.0 for _ in KINDS] for _ in KINDS])
    totals: list[float] = field(default_factory=lambda: [0.0 for _ in KINDS])

    def __post_init__(self) -> None:
        """Start from the prior."""
        self.values = self.values or list(self.prior)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Coefficients:
        """Read what was kept; raises KeyError, TypeError or ValueError for other things."""
        kept = cls(**{**document, "prior": tuple(document["prior"])})
        rows = (kept.prior, document["values"], kept.totals, *kept.products)
        if len(kept.products) != len(KINDS) or any(len(row) != len(KINDS) for row in rows):
            raise ValueError("other kinds of work were counted then")
        not_below_zero((kept.jobs, *chain.from_iterable(rows)))
        above_zero((kept.scale, kept.prior[4], kept.values[4]))
        return kept

    def of(self, done: Sequence[float]) -> float:
        """Return what work costs."""
        return cost(self.values, done)

    def measured(self, done: Work, took_ms: float) -> None:
        """Take in a measurement, above 0; `fit` makes something of it."""
        self.jobs += 1
        self._rescale(took_ms / cost(self.prior, done))
        expected = self.of(done)
        error = abs(took_ms - expected) / expected
        weight = min(1.0, _DOUBT / error if error else 1.0) / max(expected, took_ms) ** 2
        for one in KINDS:
            self.totals[one] = _KEEP * self.totals[one] + weight * done[one] * took_ms
            row = self.products[one]
            for other in KINDS:
                row[other] = _KEEP * row[other] + weight * done[one] * done[other]

    def jump(self, factor: float) -> None:
        """Go where everything takes `factor` times as long."""
        self.scale *= factor
        self.values = [factor * value for value in self.values]
        self.totals = [total / factor for total in self.totals]
        self.products = [[product / factor**2 for product in row] for row in self.products]

    def _rescale(self, ratio: float) -> None:
        self.scale *= (ratio / self.scale) ** max(1.0 / self.jobs, _SCALE_WEIGHT)
        if self.jobs <= _FIRST:  # too few to tell kinds of work apart
            self.values = [self.scale * value for value in self.prior]

    def fit(self) -> None:
        """Find what fits best, from what fitted last."""
        products, totals = self._with_imagined()
        values = self.values
        for _ in range(_SWEEPS):
            for kind in KINDS:
                if products[kind][kind] > 0.0:
                    rest = sum(products[kind][other] * values[other] for other in KINDS if other != kind)
                    values[kind] = max(0.0, (totals[kind] - rest) / products[kind][kind])
        values[4] = max(values[4], _LEAST_PER_MP * self.scale * self.prior[4])
        _keep_promise(values)

    def _with_imagined(self) -> tuple[list[list[float]], list[float]]:
        products, totals = [list(row) for row in self.products], list(self.totals)
        for done in _IMAGINED:
            expected = self.scale * cost(self.prior, done)
            weight = _IMAGINED_WEIGHT / len(_IMAGINED) / expected**2
            for one in KINDS:
                totals[one] += weight * done[one] * expected
                for other in KINDS:
                    products[one][other] += weight * done[one] * done[other]
        return products, totals


def _keep_promise(values: list[float]) -> None:
    """Take from what a job and a step cost whatever their size as much as makes ten small pictures dearer than one large."""
    lead = sum(values[kind] * (_LARGE[kind] - _TEN_SMALL[kind]) for kind in _SIZED)
    lack = sum(values[kind] * (_TEN_SMALL[kind] - _LARGE[kind]) for kind in _OVERHEAD)
    if lack > lead:
        for kind in _OVERHEAD:
            values[kind] *= lead / lack
