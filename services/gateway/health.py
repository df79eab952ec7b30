"""Whether a job could be accepted and run now: store, limiter, and a model with a living worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from libs.clients.limiter import Reservation
from libs.errors import DarkroomError
from libs.ids import JobId, TenantId
from libs.rpc import deadlines
from services.gateway.catalog import CatalogView
from services.gateway.peers import Limiter, Scheduler

_NOBODY = TenantId("health")  # a tenant that has no jobs and spends nothing
_NOTHING = Reservation(JobId(""), _NOBODY, "anonymous", units=0.0, images=0)
_FINE = "ok"


@dataclass(frozen=True, slots=True)
class Health:
    """What each part says: `ok`, or what is wrong."""

    parts: dict[str, str]

    @property
    def missing(self) -> list[str]:
        """Names of the parts that are not up."""
        return [name for name, told in self.parts.items() if told != _FINE]


class HealthCheck:
    """Asks the parts, all at once."""

    def __init__(self, scheduler: Scheduler, limiter: Limiter, catalog: CatalogView) -> None:
        self._scheduler = scheduler
        self._limiter = limiter
        self._catalog = catalog

    async def check(self) -> Health:
        """Return what each part says, within the deadline of health checks."""
        store, limiter = await asyncio.gather(self._store(), self._limits())
        return Health({"store": store, "limiter": limiter, "models": self._models()})

    async def _store(self) -> str:
        """Read from the store, through the scheduler."""
        try:
            async with asyncio.timeout(deadlines.HEALTH_S):
                await self._scheduler.find_job(_NOBODY, "health")
        except (DarkroomError, TimeoutError) as error:
            return _told(error)
        return _FINE

    async def _limits(self) -> str:
        try:
            async with asyncio.timeout(deadlines.HEALTH_S):
                await self._limiter.peek(_NOTHING)
        except (DarkroomError, TimeoutError) as error:
            return _told(error)
        return _FINE

    def _models(self) -> str:
        return _FINE if self._catalog.serving() else "no usable model has a living worker"


def _told(error: DarkroomError | TimeoutError) -> str:
    return error.message if isinstance(error, DarkroomError) else "it did not answer in time"
