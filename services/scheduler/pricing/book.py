"""The prices in force and what was learned since. Pure.

Nothing in force changes between two versions: neither prices nor what a millisecond of a device is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from libs.generation.calibration import Calibration
from libs.generation.cost import CostEntry, CostTable
from libs.generation.spec import GenerationSpec
from services.scheduler.forecast.speeds import PRIOR_S_PER_UNIT

MOVED = 0.02  # a price that changes by less is not worth a new version
_SPEED_WEIGHT = 0.05  # of a new job in the average over devices


@dataclass(slots=True)
class _Model:
    """One model version: its calibrations by class of device, and what their milliseconds are worth."""

    reference: str
    classes: dict[str, Calibration] = field(default_factory=dict)
    worths: dict[str, float] = field(default_factory=dict)
    ms_per_unit: float = 1.0  # of whatever devices draw it, on the average

    @property
    def measured(self) -> bool:
        """Whether its reference class was measured."""
        return self.classes[self.reference].known


@dataclass(slots=True)
class PriceBook:
    """Learns with every job; what follows comes into force with `renew`."""

    reference: str = ""  # class of device that an operator named for all models that it serves
    table: CostTable = field(default_factory=CostTable)
    _models: dict[str, _Model] = field(default_factory=dict)
    _learned: set[str] = field(default_factory=set)  # models of which something came since the last look

    def learn(self, model_version: str, device_class: str, spec: GenerationSpec, gpu_ms: float) -> bool:
        """Take in an attempt that drew all of its pictures; returns whether anything was learned from it."""
        model = self._models.setdefault(model_version, _Model(device_class))
        if device_class == self.reference:
            model.reference = device_class
        calibration = model.classes.setdefault(device_class, Calibration.begin(self.table.prior))
        learned = calibration.learn(spec, gpu_ms)
        if learned:
            speed = 1.0 / self.worth(model_version, device_class)
            model.ms_per_unit += _SPEED_WEIGHT * (speed - model.ms_per_unit)
            self._learned.add(model_version)
        return learned

    def worth(self, model_version: str, device_class: str) -> float:
        """Return the units of a millisecond of a class of device: 1 on the reference, and until both are measured."""
        model = self._models.get(model_version)
        return model.worths.get(device_class, 1.0) if model else 1.0

    def seconds_per_unit(self, model_version: str) -> float:
        """Return the seconds of a device that an estimated unit takes on the average."""
        model, entry = self._models.get(model_version), self.table.entries.get(model_version)
        if model is None or entry is None:
            return PRIOR_S_PER_UNIT
        return PRIOR_S_PER_UNIT * model.ms_per_unit * entry.typical / entry.high

    def renew(self) -> Iterator[str]:
        """Look at each model of which something was learned; then put what follows into force, if anything moved.

        Yields after each model, so that whoever looks can let others have the event loop in between.
        """
        entries = dict(self.table.entries)
        for model_version in sorted(self._learned):
            self._learned.discard(model_version)
            entry = self._renewed(model_version)
            if entry is not None:
                entries[model_version] = entry
            yield model_version
        if entries != self.table.entries:
            self.table = CostTable(entries, self.table.prior, self.table.version + 1)

    def _renewed(self, model_version: str) -> CostEntry | None:
        """Return the prices of a model if they moved."""
        model = self._models[model_version]
        if not model.measured:
            return None
        base = model.classes[model.reference]
        worths = {name: each.worth_beside(base) for name, each in model.classes.items() if each.known}
        before, entry = self.table.entry(model_version), base.entry()
        changes = [entry.price(*each)[1] / before.price(*each)[1] for each in base.seen()]
        changes += [worth / model.worths.get(name, 1.0) for name, worth in worths.items()]
        if model_version in self.table.entries and all(abs(math.log(change)) <= MOVED for change in changes):
            return None
        model.worths = worths
        return entry

    def forget(self, keep: int, listed: frozenset[str]) -> None:
        """Drop what was learned of models that are listed no more, but for the last `keep` of them."""
        gone = [model_version for model_version in self._models if model_version not in listed]
        for model_version in gone[: max(0, len(gone) - keep)]:
            del self._models[model_version]
            self._learned.discard(model_version)

    def to_document(self) -> dict[str, Any]:
        """Return what is kept."""
        return {
            "version": self.table.version,
            "entries": {model_version: entry.to_document() for model_version, entry in self.table.entries.items()},
            "models": {model_version: self._kept(model_version) for model_version in self._models},
            "seconds_per_unit": {model_version: self.seconds_per_unit(model_version) for model_version in self._models},
        }

    def _kept(self, model_version: str) -> dict[str, Any]:
        model = self._models[model_version]
        classes = {name: each.to_document() for name, each in model.classes.items()}
        return {"reference": model.reference, "classes": classes, "worths": model.worths, "ms": model.ms_per_unit}

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take up what was kept, with the version it had; raises KeyError, TypeError or ValueError for other things."""
        models = {name: _model(kept) for name, kept in document["models"].items()}
        entries = {name: CostEntry.from_document(entry) for name, entry in document["entries"].items()}
        self._models, self.table = models, CostTable(entries, self.table.prior, int(document["version"]))


def _model(kept: Mapping[str, Any]) -> _Model:
    classes = {name: Calibration.from_document(each) for name, each in kept["classes"].items()}
    return _Model(kept["reference"], classes, dict(kept["worths"]), kept["ms"])
