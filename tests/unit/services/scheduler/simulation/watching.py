"""What must hold all the while: looked at every second or so, with the leader's memory as it is just then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.scheduler.storage.changes import RUNNING_OUTCOME
from tests.unit.services.scheduler.simulation.lives import Life

if TYPE_CHECKING:
    from tests.unit.services.scheduler.simulation.world import World


async def look(world: World) -> None:
    """Note what is wrong now."""
    for life in world.living:
        if life.leads:
            await _rows(world, life)


async def _rows(world: World, life: Life) -> None:
    """No leader gives a worker more than fits and one more; what it took up from another it did not give."""
    scheduler = life.scheduler
    for worker in scheduler.fleet.workers().values():
        own = 0
        for job_id in scheduler.fleet.given(worker):
            attempts = await world.store.attempts(job_id)
            own += bool(attempts) and (attempts[-1].epoch, attempts[-1].outcome) == (
                scheduler.lead.epoch,
                RUNNING_OUTCOME,
            )
        if own > worker.rows + 1:
            world.seen_wrong[f"{life.name} gave {worker.worker_id} {own} attempts for {worker.rows} rows"] = None
