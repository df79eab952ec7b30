"""What a request costs in units: one table for limiter, scheduler, estimates and ETA.

One unit is one millisecond of the reference device. Until measurements replace it (design/5-limits, Unit) the prior is
`fixed + steps · images · frames · rows · (b·MP + c·MP²)`, of the steps only those that are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.generation.spec import GenerationSpec


@dataclass(frozen=True, slots=True)
class CostEntry:
    """Prices of one model version, in units: per job, per step·image·MP, per step·image·MP²; factor when guided."""

    fixed: float = 40.0
    per_mp: float = 440.0
    per_mp2: float = 60.0
    guided: float = 2.0


@dataclass(frozen=True, slots=True)
class CostTable:
    """Prices by pinned model version; versions without one have the prior."""

    entries: Mapping[str, CostEntry]
    prior: CostEntry = CostEntry()

    def units(self, spec: GenerationSpec, model_version: str) -> float:
        """Return the units that `spec` is estimated to cost; grows with size, steps, strength, images, frames and guidance."""
        entry = self.entries.get(model_version, self.prior)
        pixels = entry.per_mp * spec.megapixels + entry.per_mp2 * spec.megapixels**2
        rows = entry.guided if spec.guided else 1.0
        pictures = spec.images * (spec.frames or 1)
        return round(entry.fixed + spec.drawn_steps * pictures * rows * pixels, 1)
