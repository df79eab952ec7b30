"""What a request makes a model do, as numbers that a price can be fitted to, and the class that it is measured in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from libs.generation.sound import finite
from libs.generation.spec import GenerationSpec

GUIDED = "+guided"

# In the order of a CostEntry's coefficients: once a job; pictures · MP; steps; rows · steps; those · MP; those · MP².
Work = tuple[float, float, float, float, float, float]
KINDS = range(6)
_MOST_DOUBLINGS = 1000


@dataclass(frozen=True, slots=True)
class Bucket:
    """A class of requests that are measured together; sizes and steps in powers of two."""

    kind: str  # text, image or inpaint, and what makes a difference beside size and steps: `text+guided+lora`
    size: int  # pixels of a picture, of all frames of a clip
    steps: int  # that are drawn

    def within(self, other: Bucket) -> bool:
        """Whether it is of the same kind, and neither larger nor longer."""
        return self.kind == other.kind and self.size <= other.size and self.steps <= other.steps

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Bucket:
        """Read what was kept; raises TypeError or ValueError for other things."""
        kept = cls(**document)
        if not (isinstance(kept.kind, str) and isinstance(kept.size, int) and isinstance(kept.steps, int)):
            raise TypeError("a class of requests has a kind and two whole numbers")
        finite((kept.size, kept.steps), 0, _MOST_DOUBLINGS)
        return kept

    def unguided(self) -> Bucket:
        """Return the class of the same requests without guidance."""
        return replace(self, kind=self.kind.replace(GUIDED, ""))


def bucket_of(spec: GenerationSpec) -> Bucket:
    """Return the class of a request."""
    mode = "inpaint" if spec.mask_image else "image" if spec.input_image else "text"
    extras = ((GUIDED, spec.guided), ("+lora", spec.loras), ("+preview", spec.preview))
    kind = mode + "".join(name for name, present in extras if present)
    return Bucket(kind, doublings(spec.width * spec.height * (spec.frames or 1)), doublings(spec.drawn_steps))


def work_of(spec: GenerationSpec, guided: float) -> Work:
    """Return the work of a request of which guidance makes each step `guided` times as long."""
    return work(spec.megapixels, spec.drawn_steps, spec.images * (spec.frames or 1), guided if spec.guided else 1.0)


def work(megapixels: float, steps: int, pictures: int = 1, rows: float = 1.0) -> Work:
    """Return the work of so many pictures, each of so many rows."""
    row_steps = steps * pictures * rows
    return 1.0, pictures * megapixels, float(steps), row_steps, row_steps * megapixels, row_steps * megapixels**2


def cost(coefficients: Sequence[float], done: Sequence[float]) -> float:
    """Return what work costs: never less for more of it while no coefficient is below 0."""
    return sum(price * amount for price, amount in zip(coefficients, done, strict=True))


def doublings(count: int) -> int:
    """Return the class of a count: each holds those up to twice those of the one before."""
    return max(0, count - 1).bit_length()
