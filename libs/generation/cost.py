"""What a request costs in units: one table for limiter, scheduler, estimates and ETA.

One unit is one millisecond of the reference device. A price is `base · ratio`:

    base   fixed + pictures · per_picture · MP + steps · (per_step + rows · (per_row + per_mp · MP + per_mp2 · MP²))
    rows   pictures, twice where guidance doubles them
    ratio  of the class of requests it belongs to (work.Bucket), as measured: how much nine of ten cost at most

Neither falls when a request asks for more, so the price does not either. Before measurements (calibration) the base is
a prior and the ratios are 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from libs.generation.sound import above_zero, not_below_zero
from libs.generation.spec import GenerationSpec
from libs.generation.work import Bucket, Work, bucket_of, cost, work_of


@dataclass(frozen=True, slots=True)
class BucketPrice:
    """What requests of one class cost, as parts of their base: half of them at most `typical`, nine of ten `high`."""

    bucket: Bucket
    typical: float
    high: float


@dataclass(frozen=True, slots=True)
class CostEntry:
    """Prices of one model version in units, by work.Work; a class without a price of its own has `typical` and `high`.

    The prices of classes never fall from one to another that it is `within`.
    """

    fixed: float = 40.0
    per_mp: float = 440.0
    per_mp2: float = 60.0
    guided: float = 2.0
    per_picture: float = 0.0
    per_step: float = 0.0
    per_row: float = 0.0
    typical: float = 0.8
    high: float = 1.0
    buckets: tuple[BucketPrice, ...] = ()
    _ratios: dict[Bucket, tuple[float, float]] = field(init=False, default_factory=dict, compare=False, repr=False)

    @property
    def coefficients(self) -> Work:
        """What each kind of work costs."""
        return self.fixed, self.per_picture, self.per_step, self.per_row, self.per_mp, self.per_mp2

    def typical_units(self, spec: GenerationSpec) -> float:
        """Return the units that half of such requests cost at most."""
        return self.prices(spec)[0]

    def high_units(self, spec: GenerationSpec) -> float:
        """Return the units that nine of ten such requests cost at most."""
        return self.prices(spec)[1]

    def prices(self, spec: GenerationSpec) -> tuple[float, float]:
        """Return the units that half of such requests cost at most, and nine of ten."""
        bucket = bucket_of(spec)
        typical, high = self.price(bucket, work_of(spec, self.guided))
        if not spec.guided:
            return typical, high
        # Where guidance was measured to take less than nothing, that was chance.
        plain_typical, plain_high = self.price(bucket.unguided(), work_of(spec, 1.0))
        return max(typical, plain_typical), max(high, plain_high)

    def price(self, bucket: Bucket, done: Sequence[float]) -> tuple[float, float]:
        """Return the units that half of the requests of a class with so much work cost at most, and nine of ten."""
        base, (typical, high) = cost(self.coefficients, done), self._ratio(bucket)
        return base * typical, base * high

    def _ratio(self, bucket: Bucket) -> tuple[float, float]:
        """Return both ratios of a class: the usual ones, held between those of the classes below and above it."""
        found = self._ratios.get(bucket)
        if found is None:
            alike = [each for each in self.buckets if each.bucket.kind == bucket.kind]
            below = [each for each in alike if each.bucket.within(bucket)]
            over = [each for each in alike if bucket.within(each.bucket)]
            typical = max([min([self.typical, *(each.typical for each in over)]), *(each.typical for each in below)])
            high = max([min([self.high, *(each.high for each in over)]), *(each.high for each in below)])
            found = self._ratios[bucket] = typical, max(typical, high)
        return found

    def times(self, factor: float) -> CostEntry:
        """Return the prices where everything costs `factor` times as much."""
        names = ("fixed", "per_picture", "per_step", "per_row", "per_mp", "per_mp2")
        return replace(self, **{name: factor * getattr(self, name) for name in names})

    def to_document(self) -> dict[str, Any]:
        """Return what is kept."""
        document = asdict(replace(self))  # without what it remembers
        del document["_ratios"]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> CostEntry:
        """Read what was kept; raises KeyError, TypeError or ValueError for other things."""
        prices = [
            BucketPrice(**{**each, "bucket": Bucket.from_document(each["bucket"])}) for each in document["buckets"]
        ]
        kept = cls(**{**document, "buckets": tuple(prices)})
        not_below_zero(kept.coefficients)
        above_zero((sum(kept.coefficients), kept.guided, kept.typical, kept.high))
        above_zero(ratio for each in prices for ratio in (each.typical, each.high))
        return kept


@dataclass(frozen=True, slots=True)
class CostTable:
    """Prices by pinned model version; versions without one have the prior. `version` grows when prices change."""

    entries: Mapping[str, CostEntry] = field(default_factory=dict)
    prior: CostEntry = CostEntry()
    version: int = 0

    def prices(self, spec: GenerationSpec, model_version: str) -> tuple[float, float]:
        """Return the units that half of such requests do not exceed, and those that nine of ten do not.

        Neither falls with size, steps, strength, images, frames or guidance.
        """
        typical, high = self.entry(model_version).prices(spec)
        return round(typical, 1), round(high, 1)

    def units(self, spec: GenerationSpec, model_version: str) -> float:
        """Return the units that `spec` is estimated to cost, which nine of ten do not exceed."""
        return self.prices(spec, model_version)[1]

    def typical_units(self, spec: GenerationSpec, model_version: str) -> float:
        """Return the units that half of such requests do not exceed."""
        return self.prices(spec, model_version)[0]

    def entry(self, model_version: str) -> CostEntry:
        """Return the prices of a model version."""
        return self.entries.get(model_version, self.prior)
