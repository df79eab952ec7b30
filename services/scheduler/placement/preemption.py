"""Who makes room for a job of a higher tier, and who goes on when there is room again. Pure.

A job is parked at a step and keeps what it has drawn. Only a strictly lower tier makes room, only for a job that came
after it had begun (one that was chosen before a higher tier's job was chosen with intent: its share, or a model that is
there), at most MOST_PARKS times, and of those the lowest tier and the latest begun where the model is near. A parked
job goes on as soon as its worker has a row for which no job of a higher tier waits; after PARKED_S it goes on anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from libs.fleet.record import WorkerRecord
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
    worker: WorkerRecord
    since: float


@dataclass(frozen=True, slots=True)
class Parked:
    """A job that was taken off the device at `since`."""

    job_id: JobId
    tier: str
    worker: WorkerRecord
    since: float


def may_park(parks: int, seat: Seat, parked_there: int) -> bool:
    """Return whether a job that was parked `parks` times could make room on its worker, where others are parked."""
    if not seat.stays or seat.resting or seat.free or seat.assigned > seat.record.rows:
        return False
    return parks < MOST_PARKS and parked_there < MOST_PARKED


def victim(waiting: Waiting, candidates: Iterable[Running]) -> Running | None:
    """Return who makes room for a waiting job among those that may be parked; None: it waits its turn."""
    able = [
        job
        for job in candidates
        if rank(job.tier) > rank(waiting.tier)
        and job.since < waiting.queued_at
        and waiting.model_version in job.worker.models
    ]
    return min(able, key=lambda job: _preference(job, waiting.model_version), default=None)


def goes_on(parked: Iterable[Parked], seat: Seat | None, rival_tier: str | None, now: float) -> Parked | None:
    """Return which of a worker's parked jobs goes on now; a job of `rival_tier` waits for the same row."""
    if seat is None or seat.resting:
        return None
    first = min(parked, key=lambda job: (rank(job.tier), job.since, job.job_id), default=None)
    if first is None:
        return None
    late = [job for job in parked if now - job.since >= PARKED_S]
    if late and seat.assigned <= seat.record.rows:
        return min(late, key=lambda job: (job.since, job.job_id))
    if seat.record.rows <= seat.assigned:
        return None
    return None if rival_tier is not None and rank(rival_tier) < rank(first.tier) else first


def _preference(job: Running, model_version: str) -> tuple[int, int, float, str]:
    return PLACES.index(place_of(model_version, job.worker)), -rank(job.tier), -job.since, job.job_id
