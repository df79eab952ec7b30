"""Which worker gets a job. Pure.

A worker takes a job while it has a free row: rows less what it was given. One more is given to a worker whose running
job is about to end, if it has the model on the device: so the next one is there when the row is free (assigned ≤ what
fits + 1). Of those that take it, in this order:

    workers to avoid last · where the weights are nearest · a free row before one that is about to be · for a model
    that must be loaded: not where others are pinned, nor where it would push out models that are waited for, and
    where most memory is spare · the least loaded by its own word · most free rows
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from libs.fleet.record import WorkerRecord
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
    """A worker with the rows it has been given, and whether it rests after a refusal.

    `ending` of its jobs are about to end; `drained` and `pinned` are an operator's word.
    """

    record: WorkerRecord
    assigned: int = 0
    resting: bool = False
    drained: bool = False
    ending: int = 0
    parked: int = 0  # jobs that go on before another is given ahead
    pinned: Collection[str] = ()

    @property
    def stays(self) -> bool:
        """Whether it goes on taking jobs."""
        return not self.record.draining and not self.drained

    @property
    def free(self) -> bool:
        """Whether one more row fits now."""
        return self.stays and not self.resting and self.record.rows - self.assigned >= 1

    @property
    def soon_free(self) -> bool:
        """Whether one more may be given although no row is free: one of its jobs is about to end."""
        full = 0 < self.record.rows == self.assigned
        return self.stays and not self.resting and full and self.ending >= 1 and not self.parked

    def takes(self, model_version: str) -> bool:
        """Whether it takes a job of the model now."""
        if model_version not in self.record.models:
            return False
        return self.free or (self.soon_free and place_of(model_version, self.record) == VRAM)


def place_of(model_version: str, record: WorkerRecord) -> str:
    """Return where a worker has the weights: `vram`, `ram` or `disk`."""
    if model_version in record.resident:
        return VRAM
    return RAM if (model_version, RAM) in record.residency else DISK


def choose(
    model_version: str,
    seats: Iterable[Seat],
    avoid: Collection[WorkerId] = (),
    needed: Collection[str] = (),
) -> WorkerRecord | Obstacle:
    """Return the worker that gets a job of `model_version`, or what stands in the way.

    `needed` are the model versions that jobs wait for.
    """
    seats = list(seats)
    takers = [seat for seat in seats if seat.takes(model_version)]
    if takers:
        return best(model_version, takers, avoid, needed)
    if not seats:
        return Obstacle.NO_WORKER
    able = [seat for seat in seats if model_version in seat.record.models]
    if not able:
        return Obstacle.NO_MODEL
    return Obstacle.ALL_BUSY if any(seat.stays for seat in able) else Obstacle.ALL_DRAINING


def best(
    model_version: str, takers: Iterable[Seat], avoid: Collection[WorkerId] = (), needed: Collection[str] = ()
) -> WorkerRecord:
    """Return who gets a job among some that take it."""
    return min(takers, key=lambda seat: _preference(seat, model_version, avoid, needed)).record


def feasible(model_version: str, workers: Mapping[WorkerId, WorkerRecord]) -> bool:
    """Return whether a living worker that stays can run the model at all."""
    return any(model_version in record.models and not record.draining for record in workers.values())


def _preference(
    seat: Seat, model_version: str, avoid: Collection[WorkerId], needed: Collection[str]
) -> tuple[object, ...]:
    record = seat.record
    place = place_of(model_version, record)
    harm = (0, 0, 0.0) if place == VRAM else _harm(seat, model_version, needed)
    spare_rows = record.rows - seat.assigned
    return (
        record.worker_id in avoid,
        PLACES.index(place),
        not seat.free,
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
    used = record.memory_used_bytes
    return pinned_others, waited_for, used / record.memory_bytes if used and record.memory_bytes else 0.0
