"""Smaller forms of a request that fit into what is left; pure. A denial names the best one, an estimate three."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from itertools import product

from libs.generation.cost import CostTable
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec

_SHARES = (1.0, 0.75, 0.5, 0.25)
_SMALL_SHARES = (0.125, 0.0625)  # for what costs far more than there is: on a slow device, or of a small tier
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


@dataclasses.dataclass(frozen=True, slots=True)
class Room:
    """What a request must fit into; None is no limit. `pixels` and `steps` are those of one picture."""

    units: float
    images: int | None = None
    pixels: int | None = None
    steps: int | None = None

    def takes(self, option: Option) -> bool:
        """Whether a request fits."""
        spec = option.spec
        sizes = ((spec.images, self.images), (spec.width * spec.height, self.pixels), (spec.steps, self.steps))
        return option.units <= self.units and all(most is None or size <= most for size, most in sizes)


def cheaper(spec: GenerationSpec, model: Model, costs: CostTable, room: Room, *, far: bool = False) -> list[Option]:
    """Return at most three smaller requests that fit, the nearest to the asked one first.

    `far` is for what never fits: rather than none, also forms that are far from the asked one.
    """
    fitting: list[Option] = []
    for shares in (_SHARES, (*_SHARES, *_SMALL_SHARES))[: 1 + far]:
        fitting = fitting or _fitting(spec, _options(spec, model, costs, room, shares), room)
    return fitting[:_MOST]


def _fitting(spec: GenerationSpec, tried: Iterable[Option], room: Room) -> list[Option]:
    options = {str(option): option for option in tried if room.takes(option)}
    asked = str(Option(spec, 0.0))
    return sorted((o for name, o in options.items() if name != asked), key=lambda o: -o.units)


def _options(
    spec: GenerationSpec, model: Model, costs: CostTable, room: Room, shares: tuple[float, ...]
) -> Iterator[Option]:
    limits, counts = model.limits, {spec.images, 1, min(spec.images, room.images or spec.images)}
    sizes, most_steps = {*shares, _to_fit(spec, room)}, min(spec.steps, room.steps or spec.steps)
    for images, size, steps, frames in product(
        counts, sizes, _step_counts(spec, most_steps, shares), _frames(spec, model, shares)
    ):
        width = int(spec.width * size) // limits.size_step * limits.size_step
        height = int(spec.height * size) // limits.size_step * limits.size_step
        if min(width, height) < limits.min_size:
            continue
        smaller = dataclasses.replace(spec, images=images, width=width, height=height, frames=frames, steps=steps)
        if smaller.drawn_steps:
            yield Option(smaller, costs.units(smaller, model.pinned))


def _to_fit(spec: GenerationSpec, room: Room) -> float:
    """Return the largest scale at which the pixels fit."""
    return min(1.0, math.sqrt((room.pixels or math.inf) / (spec.width * spec.height)))


def _step_counts(spec: GenerationSpec, most: int, shares: tuple[float, ...]) -> set[int]:
    return {max(1, round(spec.steps * share)) for share in shares} | {most}


def _frames(spec: GenerationSpec, model: Model, shares: tuple[float, ...]) -> set[int | None]:
    if spec.frames is None:
        return {None}
    step = max(1, model.limits.frame_step)
    return {1 + int((spec.frames - 1) * share) // step * step for share in shares}
