"""Smaller forms of a request that fit into what is left; pure. A denial names the best one, an estimate three."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import product

from libs.generation.cost import CostTable
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec

_SHARES = (1.0, 0.75, 0.5, 0.25)
_MOST = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """A smaller request and its price in units. Sizes in pixels."""

    spec: GenerationSpec
    units: float

    def __str__(self) -> str:
        """The shape as callers read it: `768x768x20`, with the number of pictures when there are several."""
        many = f"x{self.spec.images}" if self.spec.images > 1 else ""
        frames = f", {self.spec.frames} frames" if self.spec.frames else ""
        return f"{self.spec.width}x{self.spec.height}x{self.spec.steps}{many}{frames}"


def cheaper(spec: GenerationSpec, model: Model, costs: CostTable, available_units: float) -> list[Option]:
    """Return at most three smaller requests that cost at most `available_units`, the nearest to the asked one first."""
    options = {str(o): o for o in _options(spec, model, costs) if o.units <= available_units}
    asked = str(Option(spec, 0.0))
    ranked = sorted((o for name, o in options.items() if name != asked), key=lambda o: -o.units)
    return ranked[:_MOST]


def _options(spec: GenerationSpec, model: Model, costs: CostTable) -> Iterator[Option]:
    limits = model.limits
    for images, size, steps, frames in product({spec.images, 1}, _SHARES, _SHARES, _frames(spec, model)):
        width = int(spec.width * size) // limits.size_step * limits.size_step
        height = int(spec.height * size) // limits.size_step * limits.size_step
        if min(width, height) < limits.min_size:
            continue
        smaller = dataclasses.replace(
            spec, images=images, width=width, height=height, frames=frames, steps=max(1, round(spec.steps * steps))
        )
        if smaller.drawn_steps:
            yield Option(smaller, costs.units(smaller, model.pinned))


def _frames(spec: GenerationSpec, model: Model) -> set[int | None]:
    if spec.frames is None:
        return {None}
    step = max(1, model.limits.frame_step)
    return {1 + int((spec.frames - 1) * share) // step * step for share in _SHARES}
