"""Who makes room for a job of a higher tier, and who goes on when there is room again. Pure.

A job is parked at a step and keeps what it has drawn. Only a strictly lower tier makes room, only for a job that came
after it had begun (one that was chosen before a higher tier's job was chosen with intent: its share, or a model that is
there), at most MOST_PARKS times, and of those the lowest tier and the latest begun where the model is near; and only where
enough of them can make room that it fits. What is free then is kept for it and for those that are parked. A parked
job goes on as soon as its worker has a row for which no job of a higher tier waits; after PARKED_S it goes on anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import UNKNOWN, Shape, fits
from libs.ids import JobId
from services.scheduler.order.ordering import Waiting
from services.scheduler.order.shares import rank
from services.scheduler.placement.load_times import PLACES
from services.scheduler.placement.placement import Seat, place_of

MOST_PARKS = 2  # of one attempt
MOST_PARKED = 4  # on one worker: their state is in its memory
PARKED_S = 60.0  # after which a parked job goes on whoever waits


@dataclass(frozen=True, slots=True)
class Running:
    """A job that draws, on the device without a break `since` then (Unix seconds)."""

    job_id: JobId
    tier: str
    seat: Seat
    since: float
    rows: int = 1

    @property
    def worker(self) -> WorkerRecord:
        """Where it draws."""
        return self.seat.record


@dataclass(frozen=True, slots=True)
class Parked:
    """A job that was taken off the device at `since`."""

    job_id: JobId
    tier: str
    worker: WorkerRecord
    since: float
    shape: Shape = UNKNOWN


def may_park(parks: int, seat: Seat) -> bool:
    """Return whether a job that was parked `parks` times could make room on its worker."""
    if not seat.stays or seat.resting or seat.waits:
        return False
    return parks < MOST_PARKS and seat.parked < MOST_PARKED


def victim(waiting: Waiting, candidates: Iterable[Running]) -> Running | None:
    """Return who makes room for a waiting job among those that may be parked; None: it waits its turn."""
    enough = _enough(Shape.of_line(waiting.line), _able(waiting, candidates))
    return min(enough, key=lambda job: _preference(job, waiting.model_version), default=None)


def victims(waiting: Waiting, seat: Seat, candidates: Iterable[Running]) -> list[Running]:
    """Return who of one worker make room together, as few as it takes; nobody where all of them are too few."""
    shape, found = Shape.of_line(waiting.line), list[Running]()
    able = sorted(_able(waiting, candidates), key=lambda job: _preference(job, waiting.model_version))
    for job in able[: max(0, MOST_PARKED - seat.parked)]:
        found.append(job)
        rows = max(0, seat.rows - sum(each.rows for each in found))
        if fits(shape, seat.assigned - len(found), rows, seat.most_for, seat.record.rows):
            return found
    return []


def goes_on(parked: Collection[Parked], seat: Seat | None, rival_tier: str | None, now: float) -> Parked | None:
    """Return which of a worker's parked jobs goes on now; a job of `rival_tier` waits for the same row."""
    if seat is None or seat.resting:
        return None
    first = min(parked, key=lambda job: (rank(job.tier), job.since, job.job_id), default=None)
    if first is None:
        return None
    late = [job for job in parked if now - job.since >= PARKED_S]
    if late and not seat.waits:
        return min(late, key=lambda job: (job.since, job.job_id))
    if not seat.has_rows_for(first.shape):
        return None
    return None if goes_before(parked, rival_tier) else first


def goes_before(parked: Iterable[Parked], rival_tier: str | None) -> bool:
    """Return whether a job of a tier gets the rows of a worker before those that are parked there."""
    return rival_tier is not None and all(rank(rival_tier) < rank(job.tier) for job in parked)


def _able(waiting: Waiting, candidates: Iterable[Running]) -> list[Running]:
    return [
        job
        for job in candidates
        if rank(job.tier) > rank(waiting.tier)
        and job.since < waiting.queued_at
        and waiting.model_version in job.worker.models
    ]


def _enough(shape: Shape, able: Iterable[Running]) -> list[Running]:
    """Return those on workers where the job does not fit now, and would when as many of them as may be were parked."""
    by_worker: defaultdict[str, list[Running]] = defaultdict(list)
    for job in able:
        by_worker[job.worker.worker_id].append(job)
    return [job for jobs in by_worker.values() if _would_fit(shape, jobs) for job in jobs]


def _would_fit(shape: Shape, able: list[Running]) -> bool:
    seat = able[0].seat
    most = max(0, MOST_PARKED - seat.parked)
    rows = sum(sorted((job.rows for job in able), reverse=True)[:most])
    jobs = seat.assigned - min(most, len(able))
    room = fits(shape, jobs, max(0, seat.rows - rows), seat.most_for, seat.record.rows)
    return room and not seat.has_rows_for(shape)


def _preference(job: Running, model_version: str) -> tuple[int, int, float, str]:
    return PLACES.index(place_of(model_version, job.worker)), -rank(job.tier), -job.since, job.job_id
