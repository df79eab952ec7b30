"""Which worker gets a job. Pure. Locality, batching and quarantine take their place here (design/3-scheduler 2, 4)."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from libs.fleet.record import WorkerRecord
from libs.ids import WorkerId


class Obstacle(enum.Enum):
    """Why a job cannot be placed now."""

    NO_WORKER = "no worker is alive"  # the fleet is empty
    NO_MODEL = "no living worker can use its model"  # it waits for a worker that can
    ALL_DRAINING = "every worker with its model is draining"  # they go away soon
    ALL_BUSY = "every worker with its model is busy"  # a row frees with time


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker with the rows it has been given, and whether it rests after a refusal."""

    record: WorkerRecord
    assigned: int = 0
    resting: bool = False

    @property
    def free(self) -> bool:
        """Whether one more row fits now."""
        return not self.record.draining and not self.resting and self.record.rows - self.assigned >= 1


def choose(model_version: str, seats: Iterable[Seat], avoid: Collection[WorkerId] = ()) -> WorkerRecord | Obstacle:
    """Return the worker that gets a job of `model_version`, or what stands in the way.

    Workers to avoid come last, those that have the model loaded first, then those with most free rows.
    """
    seats = list(seats)
    if not seats:
        return Obstacle.NO_WORKER
    able = [seat for seat in seats if model_version in seat.record.models]
    if not able:
        return Obstacle.NO_MODEL
    if all(seat.record.draining for seat in able):
        return Obstacle.ALL_DRAINING
    free = [seat for seat in able if seat.free]
    if not free:
        return Obstacle.ALL_BUSY
    return min(free, key=lambda seat: _preference(seat, model_version, avoid)).record


def feasible(model_version: str, workers: Mapping[WorkerId, WorkerRecord]) -> bool:
    """Return whether a living worker that stays can run the model at all."""
    return any(model_version in record.models and not record.draining for record in workers.values())


def _preference(seat: Seat, model_version: str, avoid: Collection[WorkerId]) -> tuple[bool, bool, int, str]:
    record = seat.record
    loaded = model_version in record.resident
    return record.worker_id in avoid, not loaded, seat.assigned - record.rows, record.worker_id
