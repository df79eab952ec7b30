"""What must hold all the while, seen in the leader's memory as it is just then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.ids import JobId
from services.scheduler.storage.changes import RUNNING_OUTCOME
from tests.unit.services.scheduler.simulation.lives import Life

if TYPE_CHECKING:
    from tests.unit.services.scheduler.simulation.world import World


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
