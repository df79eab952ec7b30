"""What must outlast prices that cannot be read: their version, and whose milliseconds are a model's units.

It is kept beside the prices, a small document of words and plain numbers that hardly ever changes its shape. Prices are
learned again within minutes; what a unit means, in limits, balances and bills, is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from libs.generation.sound import above_zero


@dataclass(frozen=True, slots=True)
class Standing:
    """The reference class of a model version, and what a millisecond of each class is worth there."""

    reference: str
    worths: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Anchor:
    """The versions that prices and catalog had at least, and the standing of each model version."""

    version: int = 0
    catalog_version: int = 0
    models: Mapping[str, Standing] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Return what is kept."""
        models = {
            name: {"reference": each.reference, "worths": dict(each.worths)} for name, each in self.models.items()
        }
        return {"version": self.version, "catalog_version": self.catalog_version, "models": models}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Anchor:
        """Read what was kept; what another release keeps beside it is left out. Raises one of `unreadable.UNREADABLE`."""
        models = {str(name): standing_of(kept) for name, kept in document["models"].items()}
        return cls(int(document["version"]), int(document["catalog_version"]), models)


def standing_of(kept: Mapping[str, Any]) -> Standing:
    """Read the standing of a model; raises one of `unreadable.UNREADABLE` for other things."""
    worths = {str(name): float(worth) for name, worth in kept["worths"].items()}
    above_zero(worths.values())
    return Standing(str(kept["reference"]), worths)
