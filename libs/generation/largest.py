"""The largest picture that a tier allows, and what it costs: what a tier allows must be what it can grant. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from libs.generation.cost import CostTable
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec

_GUIDED = 7.5


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest picture of one model, and the units that nine of ten like it cost at most."""

    model: str
    pixels: int
    steps: int
    units: float

    def __str__(self) -> str:
        """Say it in the words of a sentence."""
        return f"one picture of {self.pixels:_} pixels at {self.steps} steps of {self.model}"


def picture(pixels: int, steps: int, guidance_scale: float = _GUIDED) -> GenerationSpec:
    """Return a request for one picture of so many pixels and steps, with guidance."""
    return GenerationSpec(
        "", "", "", pixels, 1, images=1, steps=steps, guidance_scale=guidance_scale, seed=0, sampler=""
    )


def largest_of(model: Model, costs: CostTable, max_pixels: int | None, max_steps: int | None) -> Largest:
    """Return the largest picture that both a model and a tier allow; None is a tier without such a limit."""
    limits = model.limits
    pixels = min(limits.max_pixels, limits.max_size**2, max_pixels or limits.max_pixels)
    steps = min(limits.max_steps, max_steps or limits.max_steps)
    asked = picture(pixels, steps, min(_GUIDED, limits.max_guidance_scale))
    return Largest(model.pinned, pixels, steps, costs.units(asked, model.pinned))
