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
from libs.generation.sound import above_zero
from libs.generation.spec import GenerationSpec
from services.scheduler.forecast.speeds import PRIOR_S_PER_UNIT
from services.scheduler.pricing.anchor import Anchor, Standing, standing_of

FORMAT = 1  # of what is kept; a higher one is of a later release
MOVED = 0.02  # a price that changes by less is not worth a new version
_MOST_GONE = 1000  # models whose reference is remembered when all else about them is not
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
        base = self.classes.get(self.reference)
        return base is not None and base.known

    @property
    def basis(self) -> str | None:
        """The class whose measurements make the prices, if any can.

        Where the reference was not measured, that is the best known of those whose worth is known: what it was measured
        for may be lost, and no device of that class may ever come again.
        """
        if self.measured:
            return self.reference
        worthy = [name for name, each in self.classes.items() if each.known and name in self.worths]
        return max(worthy, key=lambda name: (self.classes[name].jobs, name), default=None)


@dataclass(slots=True)
class PriceBook:
    """Learns with every job; what follows comes into force with `renew`."""

    reference: str = ""  # class of device that an operator named for all models that it serves
    table: CostTable = field(default_factory=CostTable)
    _models: dict[str, _Model] = field(default_factory=dict)
    _learned: set[str] = field(default_factory=set)  # models of which something came since the last look
    _gone: dict[str, Standing] = field(default_factory=dict)  # of models that were forgotten, in case they come back

    def learn(self, model_version: str, device_class: str, spec: GenerationSpec, gpu_ms: float) -> bool:
        """Take in an attempt that drew all of its pictures; returns whether anything was learned from it."""
        model = self._model(model_version, device_class)
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
        model = self._models.get(model_version) or self._gone.get(model_version)
        return model.worths.get(device_class, 1.0) if model else 1.0

    def _model(self, model_version: str, device_class: str) -> _Model:
        """Return what is known of a model, of a new one that this class of device served first."""
        model = self._models.get(model_version)
        if model is None:
            before = self._gone.pop(model_version, Standing(device_class))
            model = self._models[model_version] = _Model(before.reference, worths=dict(before.worths))
        return model

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
        name = model.basis
        if name is None:
            return None
        base, worths = model.classes[name], dict[str, float]()
        before, entry = self.table.entry(model_version), base.entry()
        if model.measured:
            worths = {name: each.worth_beside(base) for name, each in model.classes.items() if each.known}
        else:
            entry = entry.times(model.worths[name])
        changes = [entry.price(*each)[1] / before.price(*each)[1] for each in base.seen()]
        changes += [worth / model.worths.get(name, 1.0) for name, worth in worths.items()]
        if model_version in self.table.entries and all(abs(math.log(change)) <= MOVED for change in changes):
            return None
        model.worths |= worths
        return entry

    def forget(self, keep: int, listed: frozenset[str]) -> None:
        """Drop what was learned of models that are listed no more, but for the last `keep` of them."""
        gone = [model_version for model_version in self._models if model_version not in listed]
        for model_version in gone[: max(0, len(gone) - keep)]:
            model = self._models.pop(model_version)
            self._learned.discard(model_version)
            self._gone[model_version] = Standing(model.reference, model.worths)
        for model_version in list(self._gone)[: max(0, len(self._gone) - _MOST_GONE)]:
            del self._gone[model_version]

    def anchor(self, catalog_version: int) -> Anchor:
        """Return what must not be lost with the rest."""
        models = {name: Standing(model.reference, dict(model.worths)) for name, model in self._models.items()}
        return Anchor(self.table.version, catalog_version, self._gone | models)

    def hold_to(self, anchor: Anchor) -> None:
        """Go on from an anchor where the rest is lost: every price is the prior again, so it is another version."""
        self._models = {name: _Model(each.reference, worths=dict(each.worths)) for name, each in anchor.models.items()}
        self.table = CostTable({}, self.table.prior, anchor.version + 1)

    def remember(self, anchor: Anchor) -> None:
        """Take up from an anchor what was restored without: models that were forgotten."""
        self._gone = {name: each for name, each in anchor.models.items() if name not in self._models}

    def to_document(self) -> dict[str, Any]:
        """Return what is kept."""
        return {
            "format": FORMAT,
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
        """Take up what was kept, with the version it had; raises one of `unreadable.UNREADABLE` for other things."""
        if document.get("format", FORMAT) > FORMAT:
            raise ValueError("a later release wrote these prices")
        models = {name: _model(kept) for name, kept in document["models"].items()}
        entries = {name: CostEntry.from_document(entry) for name, entry in document["entries"].items()}
        self._models, self.table = models, CostTable(entries, self.table.prior, int(document["version"]))


def _model(kept: Mapping[str, Any]) -> _Model:
    standing = standing_of(kept)
    above_zero((kept["ms"],))
    classes = {name: Calibration.from_document(each) for name, each in kept["classes"].items()}
    return _Model(standing.reference, classes, dict(standing.worths), kept["ms"])
