"""What must hold after a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

from libs.ids import JobId
from services.scheduler.job import JobState
from tests.unit.services.scheduler.simulation.workers import Ran
from tests.unit.services.scheduler.simulation.world import OWNERS, World

FINAL_KINDS = ("completed", "failed", "cancelled", "expired")


async def wrong(world: World) -> list[str]:
    """Return everything that is not as it must be."""
    found = [f"{life.name} died: {life.fault!r}" for life in world.lives if life.fault]
    if len(world.acknowledged) + len(world.unheard) != OWNERS:
        found.append(f"only {len(world.acknowledged)} of {OWNERS} jobs were acknowledged")
    kept = [job_id for job_id in world.unheard if await world.store.get(job_id) is not None]
    for job_id in (*world.acknowledged, *kept):
        found += [f"{job_id}: {told}" async for told in _of_job(world, job_id)]
    found += _of_runs(world.journal)
    found += _of_memory(world)
    return found


async def _of_job(world: World, job_id: JobId) -> AsyncIterator[str]:
    job = await world.store.get(job_id)
    if job is None:
        yield "was acknowledged and is lost"
        return
    events = await world.store.events(job_id, 0)
    if job.open:
        yield f"is still {job.state.value}"
    if sum(event.kind in FINAL_KINDS for event in events) != 1:
        yield f"ended {[event.kind for event in events]}"
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield "has gaps in its events"
    if job.state is JobState.SUCCEEDED and len(job.images) != job.spec.images:
        yield "succeeded without all its pictures"
    if sum(event.kind == "started" for event in events) != job.attempt:
        yield "has attempts without a start"
    for record in await world.store.attempts(job_id):
        if record.ended_at is None:
            yield f"has attempt {record.attempt} still open"
    for told in _of_messages(world, job_id):
        yield told


def _of_messages(world: World, job_id: JobId) -> Iterator[str]:
    told = [(kind, dict(payload)) for kind, payload in world.delivered if payload["reservation_id"] == job_id]
    settled = [payload for kind, payload in told if kind == "settle"]
    if not settled:
        yield "was never settled"
    elif any(payload != settled[0] for payload in settled):
        yield "was settled in two ways"
    if not told or told[0][0] != "confirm":
        yield "was settled before it was confirmed"


def _of_runs(journal: list[Ran]) -> Iterator[str]:
    by_token = defaultdict(list)
    for ran in journal:
        by_token[ran.token].append(ran)
    for token, runs in by_token.items():
        if len(runs) > 1:
            yield f"{token} was begun on {[ran.worker for ran in runs]}: no attempt may be begun twice"
        if any(ran.drawing.ended_at is None for ran in runs):
            yield f"{token} runs on {runs[-1].worker} for ever"


def _of_memory(world: World) -> Iterator[str]:
    scheduler = world.life.scheduler
    if scheduler is None or len(world.living) != 1:
        yield f"{[life.name for life in world.living]} are left"
        return
    if len(scheduler.jobs.ordering):
        yield f"{len(scheduler.jobs.ordering)} jobs are in the order"
    if scheduler.jobs.running():
        yield "jobs run in memory"
    for worker in world.workers.values():
        if scheduler.fleet.given(worker.record):
            yield f"{worker.name} counts as busy"
