"""Which worker gets a job. Pure.

A worker takes a job while it fits beside what it was given: by the rows that it has measured for the job's size, and
where it has measured none, by how many it says it draws at once (libs.fleet.shapes). One more is given to a worker
whose running job is about to end, if it has the model on the device: so the next one is there when the row is free
(assigned ≤ what fits + 1). A job that fits nowhere gets its rows so: nothing comes after it until it draws; where
others come one after another, held.py gives it ahead. Of those that take it, in this order:

    workers to avoid last · where the weights are nearest · a free row before one that is about to be · for a model
    that must be loaded: not where others are pinned, nor where it would push out models that are waited for, and
    where most memory is spare · the least loaded by its own word · most free rows
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from libs.fleet import shapes
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import UNKNOWN, Shape
from libs.ids import WorkerId
from services.scheduler.placement.load_times import DISK, PLACES, RAM, VRAM

PREFETCH_S = 0.5  # before the end of a running job the next one may be given


class Obstacle(enum.Enum):
    """Why a job cannot be placed now."""

    NO_WORKER = "no worker is alive"  # the fleet is empty
    NO_MODEL = "no living worker can use its model"  # it waits for a worker that can
    ALL_DRAINING = "every worker with its model is draining"  # they go away soon
    ALL_BUSY = "every worker with its model is busy"  # a row frees with time


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker with the jobs it has been given, and whether it rests after a refusal.

    `ending` of its jobs are about to end; `drained` and `pinned` are an operator's word. `rows` are those of the jobs
    that draw, `waits` jobs have none yet; None: as many as are more than the worker says it draws at once.
    """

    record: WorkerRecord
    assigned: int = 0
    resting: bool = False
    drained: bool = False
    ending: int = 0
    parked: int = 0  # jobs that go on before others (preempter)
    pinned: Collection[str] = ()
    rows: int = 0
    waiting: int | None = None
    most: Mapping[tuple[str, int], int] = field(default_factory=dict)  # rows by model and class of size, as measured

    @property
    def stays(self) -> bool:
        """Whether it goes on taking jobs."""
        return not self.record.draining and not self.drained

    @property
    def waits(self) -> int:
        """How many of its jobs have no rows yet."""
        return max(0, self.assigned - self.record.rows) if self.waiting is None else self.waiting

    @property
    def takes_any(self) -> bool:
        """Whether there is any job that it might take now; its rows are for those that are parked, if there are any."""
        return self.stays and not self.resting and self.record.rows >= 1 and not self.waits and not self.parked

    @property
    def free(self) -> bool:
        """Whether one more job fits of which only the model is known."""
        return self.free_for(UNKNOWN)

    def has_rows_for(self, shape: Shape) -> bool:
        """Whether a job would draw at once beside the others, whoever may come."""
        at_once = self.record.rows
        return at_once >= 1 and not self.waits and shapes.fits(shape, self.assigned, self.rows, self.most_for, at_once)

    def free_for(self, shape: Shape) -> bool:
        """Whether one more such job fits now."""
        return self.takes_any and self.has_rows_for(shape)

    def takes_shape(self, shape: Shape) -> bool:
        """Whether it takes such a job now: it fits, or is the one that is given ahead."""
        if not self.takes_any or shape.model not in self.record.models:
            return False
        if self.has_rows_for(shape):
            return True
        return self.ending >= 1 and place_of(shape.model, self.record) == VRAM

    def takes(self, line: str) -> bool:
        """Whether it takes a job of a line now."""
        return self.takes_shape(Shape.of_line(line))

    def most_for(self, shape: Shape) -> int | None:
        """Return how many rows may draw side by side with such a job; None: not measured."""
        return self.most.get((shape.model, shape.size))


def place_of(model_version: str, record: WorkerRecord) -> str:
    """Return where a worker has the weights: `vram`, `ram` or `disk`."""
    if model_version in record.resident:
        return VRAM
    return RAM if (model_version, RAM) in record.residency else DISK


def choose(
    line: str,
    seats: Iterable[Seat],
    avoid: Collection[WorkerId] = (),
    needed: Collection[str] = (),
) -> WorkerRecord | Obstacle:
    """Return the worker that gets a job of `line`, or what stands in the way.

    `needed` are the model versions that jobs wait for.
    """
    seats, shape = list(seats), Shape.of_line(line)
    takers = [seat for seat in seats if seat.takes_shape(shape)]
    if takers:
        return best(line, takers, avoid, needed)
    if not seats:
        return Obstacle.NO_WORKER
    able = [seat for seat in seats if shape.model in seat.record.models]
    if not able:
        return Obstacle.NO_MODEL
    return Obstacle.ALL_BUSY if any(seat.stays for seat in able) else Obstacle.ALL_DRAINING


def best(
    line: str, takers: Iterable[Seat], avoid: Collection[WorkerId] = (), needed: Collection[str] = ()
) -> WorkerRecord:
    """Return who gets a job among some that take it."""
    shape = Shape.of_line(line)
    return min(takers, key=lambda seat: _preference(seat, shape, avoid, needed)).record


def _preference(seat: Seat, shape: Shape, avoid: Collection[WorkerId], needed: Collection[str]) -> tuple[object, ...]:
    record = seat.record
    place = place_of(shape.model, record)
    harm = (0, 0, 0.0) if place == VRAM else _harm(seat, shape.model, needed)
    spare_rows = record.rows - seat.assigned
    return (
        record.worker_id in avoid,
        PLACES.index(place),
        not seat.has_rows_for(shape),
        harm,
        record.load_share if seat.assigned == 0 else 0.0,  # what it holds and we did not give it
        -spare_rows,
        record.worker_id,
    )


def _harm(seat: Seat, model_version: str, needed: Collection[str]) -> tuple[int, int, float]:
    """Return what it costs others to load a model here: pinned ones, those waited for, the share of memory in use."""
    record = seat.record
    pinned_others = len([model for model in seat.pinned if model != model_version])
    waited_for = len([model for model in record.resident if model in needed])
    return pinned_others, waited_for, _used_share(record)


def _used_share(record: WorkerRecord) -> float:
    """Return the share of its memory that is in use; what it can still use counts before what all processes use."""
    free, used, whole = record.memory_free_bytes, record.memory_used_bytes, record.memory_bytes
    if not whole:
        return 0.0
    return max(0.0, 1.0 - free / whole) if free is not None else (used or 0) / whole
