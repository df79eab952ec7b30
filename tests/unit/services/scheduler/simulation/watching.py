"""What must hold all the while, seen in the leader's memory as it is just then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from libs.ids import JobId
from services.scheduler.job import Job, JobState
from services.scheduler.results.reuse import waits_for_a_run
from services.scheduler.storage.changes import RUNNING_OUTCOME

if TYPE_CHECKING:
    from tests.unit.services.scheduler.simulation.lives import Life
    from tests.unit.services.scheduler.simulation.world import World

LONG_S = 10.0  # within which a leader has heard of what another accepted


class Beginning(set[JobId]):
    """The jobs that a leader begins; says of each, before it is one of them, that it was chosen."""

    def __init__(self, say: Callable[[JobId], None]) -> None:
        super().__init__()
        self._say = say

    def add(self, job_id: JobId) -> None:
        """A job was chosen."""
        self._say(job_id)
        super().add(job_id)


def ordered(world: World, worker: str, epoch: int) -> None:
    """A worker was sent an order: no leader gives one more than fits and one; what it took up it did not give."""
    for life in world.living:
        record = next((r for r in life.scheduler.fleet.workers().values() if r.worker_id == worker), None)
        if life.scheduler.lead.epoch != epoch or record is None:
            continue
        own = [job_id for job_id in life.scheduler.fleet.given(record) if _began(world, life, job_id)]
        if len(own) > record.rows + 1:
            told = f"{life.name} gave {worker} {own}, for {record.rows} rows"
            world.seen_wrong[told] = None


def _began(world: World, life: Life, job_id: str) -> bool:
    """Whether a leader itself began the attempt that runs."""
    attempts = world.store._attempts.get(JobId(job_id), [])
    mine = life.scheduler.lead.epoch, RUNNING_OUTCOME
    return bool(attempts) and (attempts[-1].epoch, attempts[-1].outcome) == mine


def chosen(world: World, life: Life, job_id: JobId) -> None:
    """The leader chose a job: none that is alike to the order and came before it waits on, and none is lost.

    What it chose before and still commits does not wait. When that fails the job is behind this one, by no fault of
    the order. What a deposed leader chooses comes to nothing.
    """
    job = life.scheduler.jobs.get(job_id)
    assert job is not None
    if life.scheduler.lead.epoch == world.store._leader.epoch:
        found = (*_passed_over(life, job), *_lost(life), *_unheard_of(world, life, job))
        world.seen_wrong |= dict.fromkeys(found)


def _kind(job: Job) -> tuple[object, ...]:
    """By what the order tells jobs apart; rows do not matter to workers that have measured none."""
    return job.tenant_id, job.tier, job.model_version, job.spec.priority


def _passed_over(life: Life, job: Job) -> Iterator[str]:
    jobs, now = life.scheduler.jobs, life.now()
    for other in jobs.all():
        waits = other.id in jobs.ordering and other.not_before <= now
        if waits and _kind(other) == _kind(job) and other.queued_at < job.queued_at:
            yield f"{life.name} chose {job.id} before {other.id}, which had come before it"


def _lost(life: Life) -> Iterator[str]:
    scheduler = life.scheduler
    for job in scheduler.jobs.all():
        elsewhere = waits_for_a_run(job) or job.id in scheduler.dispatcher._beginning
        if job.state is JobState.QUEUED and not elsewhere and job.id not in scheduler.jobs.ordering:
            yield f"{life.name} has lost {job.id}, which is to wait in its order"


def _unheard_of(world: World, life: Life, job: Job) -> Iterator[str]:
    for other_id, acknowledged_at in world.acknowledged.items():
        other = world.store._jobs[other_id]
        before = _kind(other) == _kind(job) and acknowledged_at + LONG_S < job.created_at
        new = other.open and not other.attempt  # not one that an operator brings back just now
        if before and new and life.scheduler.jobs.get(other_id) is None:
            yield f"{life.name} chose {job.id} and does not know {other_id}, which had come {LONG_S} s before it"
