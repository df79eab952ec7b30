"""The fleet and its running jobs, as a simulation starts from them. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from libs.clients.modelserver import Progress
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import UNKNOWN, Shape
from libs.ids import JobId, WorkerId
from services.scheduler.forecast.simulation import Costs, Rest, SimulatedWorker
from services.scheduler.forecast.speeds import Speeds
from services.scheduler.placement.load_times import RAM
from services.scheduler.placement.placement import Seat


@dataclass(frozen=True, slots=True)
class Run:
    """A running job: where, with what, since when."""

    job_id: JobId
    worker: WorkerId
    model: str
    units: float
    began_at: float
    shape: Shape = UNKNOWN


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Workers and what is left of running jobs, at one moment."""

    workers: list[SimulatedWorker]
    rests: list[Rest]
    costs: Costs


def take(
    seats: Iterable[Seat],
    runs: Iterable[Run],
    progress: Callable[[JobId], Progress | None],
    speeds: Speeds,
    load_s: Callable[[str, WorkerRecord], float],
    now: float,
) -> Snapshot:
    """Return the fleet as it is now. A worker that rests a moment after a refusal counts as one that does not."""
    ordered = sorted(seats, key=lambda seat: seat.record.worker_id)
    number = {seat.record.worker_id: index for index, seat in enumerate(ordered)}
    rests = [
        Rest(run.job_id, number[run.worker], left_s(run, progress(run.job_id), speeds, now), run.units, run.shape)
        for run in runs
        if run.worker in number  # what ran on a worker that is gone will wait again, at a moment nobody knows
    ]
    costs = Costs(
        speeds.seconds_per_unit, lambda worker, model: load_s(model, ordered[number[WorkerId(worker)]].record)
    )
    return Snapshot([_worker(seat) for seat in ordered], rests, costs)


def _worker(seat: Seat) -> SimulatedWorker:
    record = seat.record
    models = _as_set(record.models) if seat.stays else frozenset()
    resident = [model for model in record.resident if model in models]
    free = record.rows - seat.assigned
    name = record.worker_id
    return SimulatedWorker(name, models, resident, free, _room(record), seat.assigned, seat.rows, seat.most)


@functools.lru_cache(maxsize=256)
def _as_set(models: tuple[str, ...]) -> frozenset[str]:
    return frozenset(models)  # most workers have the same


def _room(record: WorkerRecord) -> int:
    """Return how many models fit: where one had to leave for memory, as many as are there now, else all."""
    pushed_out = RAM in [place for _, place in record.residency]
    return max(1, len(record.resident)) if pushed_out else max(1, len(record.models))


def left_s(run: Run, progress: Progress | None, speeds: Speeds, now: float) -> float:
    """Return the seconds that are left of a running job."""
    whole_s = run.units * speeds.seconds_per_unit(run.worker, run.model)
    if progress is not None and progress.total:
        return whole_s * (1.0 - min(1.0, progress.step / progress.total))
    return max(0.1 * whole_s, whole_s - (now - run.began_at))  # one that takes longer will not end this instant
