"""How many of a worker's jobs draw side by side. Workers and schedulers count alike, so that nobody is refused.

A job's shape is its model, the class of its size and its rows. Jobs begin in the order in which they came, while the
rows of all that draw fit what was measured for the size of the next one; where nothing was measured, while they are
fewer than the worker says it draws at once. The first one always begins; behind one that waits, all wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from libs.fleet.model_rows import ModelRows
from libs.generation.rows import rows_of
from libs.generation.spec import GenerationSpec
from libs.generation.work import doublings

Most = Callable[["Shape"], int | None]  # rows that may draw side by side with it; None: not measured


@dataclass(frozen=True, slots=True)
class Shape:
    """What counts of a job for how many others draw beside it."""

    model: str  # `id@version`
    size: int = 0  # pixels of all frames, in powers of two; 0: unknown
    rows: int = 1

    @classmethod
    def of(cls, model_version: str, spec: GenerationSpec) -> Shape:
        """Return the shape of a job."""
        return cls(model_version, doublings(spec.width * spec.height * (spec.frames or 1)), rows_of(spec))

    @classmethod
    def of_line(cls, line: str) -> Shape:
        """Return the shape that a line is named after; of a plain `id@version` only the model is known."""
        parts = line.rsplit(" ", 2)
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            return cls(parts[0], int(parts[1]), int(parts[2]))
        return cls(line)

    @property
    def line(self) -> str:
        """The name of the line in which jobs of this shape wait."""
        return f"{self.model} {self.size} {self.rows}"


UNKNOWN = Shape("")  # of a job of which nothing is known


def most_rows(told: Iterable[ModelRows]) -> dict[tuple[str, int], int]:
    """Return what a worker measured, by model and class of size; of sizes in one class the least."""
    found: dict[tuple[str, int], int] = {}
    for each in told:
        for bucket, rows in each.most:
            sides = bucket.split("x")
            if all(side.isascii() and side.isdecimal() for side in sides):
                key = each.model, doublings(math.prod(map(int, sides)))
                found[key] = min(rows, found.get(key, rows))
    return found


def drawing(shapes: Iterable[Shape], most: Most, at_once: int) -> tuple[int, int]:
    """Return how many of the jobs draw side by side, and with how many rows; the others wait."""
    jobs = rows = 0
    for shape in shapes:
        if not fits(shape, jobs, rows, most, at_once):
            break
        jobs, rows = jobs + 1, rows + shape.rows
    return jobs, rows


def fits(shape: Shape, jobs: int, rows: int, most: Most, at_once: int) -> bool:
    """Return whether a job draws at once beside `jobs` others with `rows` rows, none of which waits."""
    if not jobs:
        return True
    measured = most(shape)
    return jobs < at_once if measured is None else rows + shape.rows <= measured
