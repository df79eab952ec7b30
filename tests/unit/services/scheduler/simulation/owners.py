"""Those who want something: owners submit, withdraw and delete jobs, an operator looks after the dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from libs.errors import DarkroomError, NotFound, Unavailable
from libs.ids import JobId, TenantId
from services.scheduler.job import Job, JobState
from services.scheduler.results.keeping import DEFAULT
from services.scheduler.results.keys import Keys
from services.scheduler.storage.store import Deposed, StoreUnavailable
from tests.unit.services.scheduler import fakes
from tests.unit.services.scheduler.simulation.drawings import MODELS
from tests.unit.services.scheduler.simulation.lives import Life
from tests.unit.services.scheduler.simulation.workers import POISON

if TYPE_CHECKING:
    from tests.unit.services.scheduler.simulation.world import World

TIERS = ("enterprise", "pro", "free")
TENANTS = {TenantId("acme"): 1.0, TenantId("birch"): 1.0, TenantId("cedar"): 2.0}  # with their weights
OWNERS = 40
ALONE = "only"  # begins the prompts that nobody else sends


class Owner:
    """Submits one job until it is acknowledged; some are withdrawn, some have no time, some are deleted."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.job_id = JobId(f"job_{number:02}")

    async def live(self, within_s: float) -> None:
        """Want something at some time within these seconds."""
        world, chances = self.world, self.world.chances
        await world.clock.sleep(chances.between(0.0, within_s))
        job = self._wish()
        world.wishes[job.id] = job
        patient = chances.random.random() < 0.85
        if await insist(world, f"submit {job.id}", lambda life: _submit(life, job), patient=patient) is None:
            world.unheard.append(job.id)
            return
        world.acknowledged[job.id] = world.clock.now()
        world.say(f"{job.id} is acknowledged")
        await world.clock.sleep(chances.between(0.0, 15.0 if job.spec.prompt.startswith(ALONE) else 6.0))
        if chances.random.random() < 0.3:
            told = await insist(world, f"cancel {job.id}", lambda life: life.desk.cancel(job.id, job.tenant_id))
            world.say(f"{job.id} is asked to be cancelled when it is {told.state.value}")
            if told.open or told.state is JobState.CANCELLED:
                world.cancelled[job.id] = world.clock.now()
        elif chances.random.random() < 0.1:
            world.deleted.append(job.id)
            await insist(world, f"delete {job.id}", lambda life: life.desk.delete(job.id, job.tenant_id))
            world.say(f"{job.id} is deleted")

    def _wish(self) -> Job:
        chances = self.world.chances
        drawn, now = chances.random, self.world.clock.now()
        model, tenant = drawn.choice(MODELS), drawn.choice(list(TENANTS))
        alone = drawn.random() >= chances.alike
        prompt = f"{ALONE} {self.job_id}" if alone else f"like others of {now // 20 * 20:.0f}"
        if drawn.random() < chances.poisoned:
            prompt = f"{POISON} {self.job_id}"
        spec = fakes.spec(
            model=model.id,
            prompt=prompt,
            images=2 if alone and drawn.random() < 0.3 else 1,
            steps=drawn.choice((2, 3, 5)) if alone else 4,
            priority=drawn.choice((0, 0, 1, -1)),
            allow_downgrade=drawn.random() < 0.5,
        )
        return fakes.job(
            now,
            id=self.job_id,
            request_id=self.job_id,
            tenant_id=tenant,
            tenant_weight=TENANTS[tenant],
            tier=drawn.choice(TIERS),
            model=model.id,
            model_version=model.pinned,
            spec=spec,
            deadline_at=now + chances.between(2.0, 60.0) if drawn.random() < 0.15 else None,
        )


async def look_after_dead_letters(world: World) -> None:
    """Be the operator: bring some back, drop some, until everything is well; then leave those that are left."""
    while not world.chances.calm:
        await world.clock.sleep(world.chances.between(5.0, 25.0))
        await _revive(world)
    await world.clock.sleep(20.0)
    await _revive(world)


async def _revive(world: World) -> None:
    try:
        for job in await world.life.ask(_dead_letters):
            if world.chances.random.random() < 0.2:
                await world.life.ask(lambda life, job=job: _of_leader(life).drop(job.id))
                world.say(f"{job.id} is dropped")
            else:
                await world.life.ask(lambda life, job=job: _of_leader(life).requeue(job.id))
                world.say(f"{job.id} is brought back")
    except (DarkroomError, StoreUnavailable, Deposed) as error:
        world.say(f"dead letters: {error}")


async def _dead_letters(life: Life) -> list[Job]:
    return await _of_leader(life).dead_letters(0)


def _of_leader(life: Life) -> Any:
    if not life.scheduler.lead.serving:
        raise Unavailable("the leader is asked")
    return life.scheduler.operator_desk


async def _submit(life: Life, job: Job) -> Any:
    return await life.desk.submit(Keys(life.scheduler.fleet, DEFAULT).keyed(job))


async def insist(world: World, what: str, action: Callable[[Life], Awaitable[Any]], *, patient: bool = True) -> Any:
    """Ask until there is an answer and return it; None when the first one is lost and the owner is not patient."""
    while True:
        try:
            return await world.anybody().ask(action)
        except (DarkroomError, StoreUnavailable, Deposed) as error:
            world.say(f"{what}: {error}")
            if not patient or isinstance(error, NotFound):
                return None
            await world.clock.sleep(world.chances.between(0.1, 3.0))
