"""Learns what the jobs of one model cost on one class of device, from what each was measured to take. Pure.

    base   fitted to all measurements (coefficients), refitted now and then
    ratio  of measured to base, by class of requests: an average that forgets (typical) and the quantile that covers
           nine of ten (high, Robbins-Monro); while a class has few measurements, drawn towards what holds for all

A job is told its price some time before it is measured, and devices are slower for minutes and faster again. So the
quantile is not that of measurements around what is known by then: it goes by whether the price told covered them.

A measurement that is three times off what its class is known for is not learned: a device that is ill, or somebody who
wants other prices. When the next ones are off the same way it is no accident: if they are of one class, it begins anew
from them, and if they are of several, the whole base moves there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from libs.generation.coefficients import Coefficients
from libs.generation.cost import BucketPrice, CostEntry
from libs.generation.monotone import orderly
from libs.generation.sound import above_zero, logarithms, not_below_zero
from libs.generation.spec import GenerationSpec
from libs.generation.work import Bucket, Work, bucket_of, work_of

COVERED = 0.9
JUMP = math.log(3.0)
STAYS = 10  # measurements in a row that jumped: it is so now
_KNOWN, _WELL_KNOWN = 5, 30  # measurements after which a class is known for something; after which the whole model is
_SLOWEST = 0.05  # weight of a new measurement in an average: half of it is from the last 14
_SPREAD_WEIGHT = 0.02
_STEP_OF_ALL, _STEP = 0.05, 0.1  # by which a quantile moves at most, in spreads: that of all classes, and of one
_BEHIND = 25  # measurements that came since a job was told its price, about
_BLEND_TYPICAL, _BLEND_HIGH = 2.0, 10.0  # measurements that what holds for all counts for in a class
_REFIT = 8  # refits come when there are an eighth more measurements, at the latest after …
_REFIT_AT_LATEST = 64
_LEAST_MS, _MOST_MS = 0.01, 1e9  # what lies outside was no measurement


@dataclass(slots=True)
class Row:
    """Measurements that jumped one after another, the same way."""

    jumps: int = 0
    by: float = 0.0  # on the average, a logarithm

    def add(self, off: float) -> bool:
        """Take in one that jumped; returns whether there were so many that it stays."""
        if not self.jumps or (off > 0.0) != (self.by > 0.0):
            self.end()
        self.jumps += 1
        self.by += (off - self.by) / self.jumps
        return self.jumps >= STAYS

    def end(self) -> None:
        """Take in one that did not jump."""
        self.jumps, self.by = 0, 0.0


@dataclass(slots=True)
class _Class:
    """What is known of one class of requests. Ratios to the base are logarithms."""

    bucket: Bucket
    jobs: int
    typical: float
    work: list[float]  # of one, on the average
    beyond: float = 0.0  # how much further the quantile lies above `typical` than in all classes
    row: Row = field(default_factory=Row)


@dataclass(slots=True)
class Calibration:
    """What is known of one model on one class of device; costs in milliseconds of that device."""

    guided: float
    fit: Coefficients
    spread: float = 0.15  # of ratios around their class's, on the average
    above: float = 0.223  # how far the quantile lies above typical ratios in all classes; 1 ÷ 0.8 in the prior
    work: list[float] = field(default_factory=list)  # of a job, on the average
    since_fit: int = 0
    row: Row = field(default_factory=Row)  # of those that followed one of another class
    last_jump: str = ""
    classes: dict[Bucket, _Class] = field(default_factory=dict)
    told: CostEntry | None = None  # prices as jobs that are measured now were told them

    @classmethod
    def begin(cls, prior: CostEntry) -> Calibration:
        """Return the calibration of what was never measured."""
        return cls(prior.guided, Coefficients(prior.coefficients))

    @property
    def jobs(self) -> int:
        """How many measurements it learned from."""
        return self.fit.jobs

    @property
    def known(self) -> bool:
        """Whether it says more than its prior."""
        return self.jobs >= _KNOWN

    def learn(self, spec: GenerationSpec, took_ms: float) -> bool:
        """Take in what a job was measured to take; returns whether it was learned from."""
        if not _LEAST_MS <= took_ms <= _MOST_MS:  # also false for NaN
            return False
        bucket, done = bucket_of(spec), work_of(spec, self.guided)
        known = self.classes.setdefault(bucket, _Class(bucket, 0, 0.0, list(done)))
        if (self.jobs >= _WELL_KNOWN or known.jobs >= _KNOWN) and self._jumped(known, took_ms, done):
            return False
        self.fit.measured(done, took_ms)
        self.work = _average(self.work, done, max(_SLOWEST, 1.0 / self.jobs))
        self._refit()
        self._learn_ratio(known, done, math.log(took_ms / self.fit.of(done)))
        self._learn_covering(known, spec, took_ms)
        return True

    def _jumped(self, known: _Class, took_ms: float, done: Work) -> bool:
        """Whether a measurement is to be left out."""
        off = math.log(took_ms / self.fit.of(done)) - self._typical(known)
        if abs(off) <= JUMP:
            known.row.end()
            self.row.end()
            return False
        before, self.last_jump = self.last_jump, str(known.bucket)
        if known.row.add(off):
            known.typical, known.jobs = self._typical(known) + known.row.by, _KNOWN
        elif before != self.last_jump and self.row.add(off):
            self.fit.jump(math.exp(self.row.by))
        else:
            return True
        self.told = None
        self.row.end()
        for each in self.classes.values():
            each.row.end()
        return False

    def _learn_ratio(self, known: _Class, done: Work, ratio: float) -> None:
        known.jobs += 1
        weight = max(_SLOWEST, 1.0 / known.jobs)
        known.typical += weight * (ratio - known.typical)
        known.work = _average(known.work, done, weight)

    def _learn_covering(self, known: _Class, spec: GenerationSpec, took_ms: float) -> None:
        """Move the quantiles by what was told: they have to cover that it was not known well, and is old, too."""
        if self.told is None:
            self.told = self.entry()
        typical, high = self.told.prices(spec)
        off = math.log(took_ms / typical)
        self.spread += _SPREAD_WEIGHT * (min(abs(off), JUMP) - self.spread)
        self.above += _STEP_OF_ALL * self.spread * _toward(took_ms <= high)
        step = max(_STEP, 1.0 / known.jobs)
        known.beyond += step * self.spread * _toward(off <= self.above + known.beyond)
        if self.jobs % _BEHIND == 0:
            self.told = self.entry()

    def _refit(self) -> None:
        """Fit the base anew where enough has come; what is known of classes stays the same in milliseconds."""
        self.since_fit += 1
        if self.since_fit < min(_REFIT_AT_LATEST, self.jobs / _REFIT):
            return
        before = {each.bucket: self.fit.of(each.work) for each in self.classes.values()}
        self.since_fit = 0
        self.fit.fit()
        for each in self.classes.values():
            each.typical += math.log(before[each.bucket] / self.fit.of(each.work))

    def entry(self) -> CostEntry:
        """Return the prices that follow, in milliseconds of the device."""
        fixed, per_picture, per_step, per_row, per_mp, per_mp2 = self.fit.values
        seen = [each for each in self.classes.values() if each.jobs]
        typical = orderly({each.bucket: (math.exp(self._typical(each)), each.jobs) for each in seen})
        high = orderly({each.bucket: (math.exp(self._high(each)), each.jobs) for each in seen})
        prices = [BucketPrice(bucket, typical[bucket], max(typical[bucket], high[bucket])) for bucket in typical]
        return CostEntry(
            fixed=fixed,
            per_mp=per_mp,
            per_mp2=per_mp2,
            guided=self.guided,
            per_picture=per_picture,
            per_step=per_step,
            per_row=per_row,
            typical=1.0,
            high=math.exp(max(0.0, self.above)),
            buckets=tuple(prices),
        )

    def seen(self) -> list[tuple[Bucket, list[float]]]:
        """Return the classes that were measured, each with the work of a request on the average."""
        return [(each.bucket, each.work) for each in self.classes.values() if each.jobs]

    def worth_beside(self, reference: Calibration) -> float:
        """Return what a millisecond here is worth there: how long what is drawn here would take there."""
        return reference.fit.of(self.work) / self.fit.of(self.work)

    def _typical(self, known: _Class) -> float:
        return known.typical * known.jobs / (known.jobs + _BLEND_TYPICAL)

    def _high(self, known: _Class) -> float:
        own = known.jobs / (known.jobs + _BLEND_HIGH)
        return self._typical(known) + max(0.0, self.above + own * known.beyond)

    def to_document(self) -> dict[str, Any]:
        """Return what is kept."""
        document = dataclasses.asdict(dataclasses.replace(self, classes={}, told=None))
        told = self.told.to_document() if self.told else None
        return document | {"classes": [dataclasses.asdict(each) for each in self.classes.values()], "told": told}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Calibration:
        """Read what was kept; raises KeyError, TypeError or ValueError for what it did not write."""
        read = [_class(each) for each in document["classes"]]
        plain = {name: value for name, value in document.items() if name not in ("fit", "classes", "row", "told")}
        told = CostEntry.from_document(document["told"]) if document.get("told") else None
        classes, row = {each.bucket: each for each in read}, _row(document["row"])
        kept = cls(**plain, fit=Coefficients.from_document(document["fit"]), row=row, classes=classes, told=told)
        kept._check()
        return kept

    def _check(self) -> None:
        """Raise ValueError for what would be no price."""
        above_zero((self.guided,))
        not_below_zero((self.since_fit, self.spread))
        logarithms((self.spread, self.above))
        for work in [each.work for each in self.classes.values()] + [self.work] * (self.jobs > 0):
            not_below_zero(work)
            above_zero((self.fit.of(work),))


def _class(document: Mapping[str, Any]) -> _Class:
    bucket, row = Bucket.from_document(document["bucket"]), _row(document["row"])
    kept = _Class(**{**document, "bucket": bucket, "row": row})
    not_below_zero((kept.jobs,))
    logarithms((kept.typical, kept.beyond))
    return kept


def _row(document: Mapping[str, Any]) -> Row:
    kept = Row(**document)
    not_below_zero((kept.jumps,))
    logarithms((kept.by,))
    return kept


def _toward(covered: bool) -> float:
    """Return which way and how far, of 1, a quantile moves by what was seen: it rests where nine of ten are covered."""
    return COVERED - covered


def _average(before: list[float], done: Work, weight: float) -> list[float]:
    return [old + weight * (new - old) for old, new in zip(before or done, done, strict=True)]
