"""What must hold after a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

from libs.blobs.store import image_key
from libs.ids import JobId
from services.scheduler.job import Job, JobState
from services.scheduler.results import reuse, takeover
from tests.unit.services.scheduler.simulation.drawings import Ran, sha256_of
from tests.unit.services.scheduler.simulation.owners import OWNERS
from tests.unit.services.scheduler.simulation.world import World

FINAL_KINDS = ("completed", "failed", "cancelled", "expired")
LATE_S = 0.001


async def wrong(world: World) -> list[str]:
    """Return everything that is not as it must be."""
    found = [f"{life.name} died: {life.fault!r}" for life in world.lives if life.fault]
    found += world.seen_wrong
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
    if job_id in world.deleted:
        if job is not None:
            yield "was deleted and is there"
        for told in _of_messages(world, world.wishes[job_id], 0):
            yield told
        return
    if job is None:
        yield "was acknowledged and is lost"
        return
    async for told in _of_record(world, job):
        yield told
    for told in _of_messages(world, job, job.revivals):
        yield told
    async for told in _of_pictures(world, job):
        yield told


async def _of_record(world: World, job: Job) -> AsyncIterator[str]:
    events = await world.store.events(job.id, 0)
    kinds = [event.kind for event in events]
    if job.open:
        yield f"is still {job.state.value}"
    if sum(kind in FINAL_KINDS for kind in kinds) != 1 + job.revivals:
        yield f"ended {kinds} after {job.revivals} revivals"
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield "has gaps in its events"
    if kinds.count("started") != job.attempt:
        yield "has attempts without a start"
    cancelled_at = world.cancelled.get(job.id, float("inf")) + 2 * world.chances.clocks_differ_s + LATE_S
    for record in await world.store.attempts(job.id):
        if record.ended_at is None:
            yield f"has attempt {record.attempt} still open"
        if record.started_at > cancelled_at and not job.revivals:
            yield f"began attempt {record.attempt} although it was cancelled"


def _of_messages(world: World, job: Job, revivals: int) -> Iterator[str]:
    """Each reservation is confirmed, then settled in one way; the last one by what the job says it was charged."""
    for number in range(revivals + 1):
        name = f"{job.id}.{number}" if number else job.id
        told = [(kind, dict(payload)) for kind, payload in world.delivered if payload["reservation_id"] == name]
        settled = [payload for kind, payload in told if kind == "settle"]
        if not settled:
            yield f"{name} was never settled"
        elif any(payload != settled[0] for payload in settled):
            yield f"{name} was settled in two ways"
        elif number == revivals and not job.open and settled[0]["charged_units"] != job.charged_units:
            yield f"was charged {settled[0]['charged_units']} and says {job.charged_units}"
        if not told or told[0][0] != "confirm":
            yield f"{name} was settled before it was confirmed"


async def _of_pictures(world: World, job: Job) -> AsyncIterator[str]:
    """Pictures are those that were asked for, lie there, and come from the one run that counts."""
    if job.state is not JobState.SUCCEEDED:
        return
    expected = [sha256_of(job.spec, job.model_version, index) for index in range(job.spec.images)]
    if [image.sha256 for image in job.images] != expected:
        yield "succeeded without all its pictures"
    for image in job.images:
        if not await world.blobs.exists(image_key(image.sha256)):
            yield f"picture {image.index} is gone"
    runs = {image.size_bytes for image in job.images}
    if len(runs) != 1:
        yield f"has pictures of the runs {runs}"
        return
    ran = world.journal[runs.pop()]
    if not ran.drawing.done:
        yield f"has pictures of {ran.token}, which were never stored"
    if job.cache == reuse.MISS and ran.token != (job.id, job.attempt):
        begun_for = await world.store.get(ran.token[0])
        if ran.token[0] not in world.deleted and (begun_for is None or begun_for.charge_reason != takeover.REASON):
            yield f"in attempt {job.attempt} has pictures of {ran.token}"


def _of_runs(journal: list[Ran]) -> Iterator[str]:
    by_token = defaultdict(list)
    for ran in journal:
        by_token[ran.token].append(ran)
    for token, runs in by_token.items():
        if len(runs) > 1:
            yield f"{token} was begun on {[ran.worker for ran in runs]}: no attempt may be begun twice"
        if any(ran.drawing.ended_at is None for ran in runs):
            parked = " (parked)" if runs[-1].drawing.parked else ""
            yield f"{token} runs on {runs[-1].worker} for ever{parked}"


def _of_memory(world: World) -> Iterator[str]:
    leaders = [life for life in world.living if life.leads]
    if len(leaders) != 1 or len(world.living) != world.chances.replicas:
        yield f"{[life.name for life in world.living]} are left, {[life.name for life in leaders]} lead"
        return
    scheduler = leaders[0].scheduler
    if len(scheduler.jobs.ordering):
        yield f"{len(scheduler.jobs.ordering)} jobs are in the order"
    if scheduler.jobs.running():
        yield "jobs run in memory"
    for worker in world.workers.values():
        if scheduler.fleet.given(worker.record):
            yield f"{worker.name} counts as busy"
