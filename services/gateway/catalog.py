"""The models and prices in force, as the scheduler last told them; kept when the scheduler is gone."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from libs.backoff import Backoff
from libs.clients.scheduler import Catalog
from libs.clock import Clock
from libs.errors import DarkroomError, Unavailable
from libs.generation.cost import CostTable
from libs.generation.model import Model, find_model
from services.gateway.peers import Scheduler

logger = logging.getLogger(__name__)


class CatalogView:
    """The latest catalog. Every read before the first one raises Unavailable."""

    def __init__(self) -> None:
        self._latest: Catalog | None = None
        self._arrived = asyncio.Event()

    @property
    def models(self) -> tuple[Model, ...]:
        """All models, the unusable ones included."""
        return self._known().models

    @property
    def costs(self) -> CostTable:
        """The prices."""
        return self._known().costs

    def find(self, name: str) -> Model:
        """Return the model that requests for `name` get; raises as `find_model` does, or Unavailable when empty."""
        known = self._known()
        if not known.models:
            told = "No model server has joined yet, so there is no model. Nothing was charged; try again in 5 s."
            raise Unavailable(told, reason="NO_CAPACITY", retry_after_s=5.0)
        return find_model(name, known.models, known.default_model)

    def read(self, name: str) -> Model:
        """Return a model for reading: also one that cannot be used."""
        known = self._known()
        shown = [dataclasses.replace(model, unusable_reason="") for model in known.models]
        found = find_model(name, shown, known.default_model)
        return next(model for model in known.models if model.id == found.id)

    def serving(self) -> list[Model]:
        """Return the models that a living worker can run now; empty before the first catalog."""
        known = self._latest.models if self._latest else ()
        return [model for model in known if model.usable and model.workers > 0]

    def replace(self, catalog: Catalog) -> None:
        """Take a newer catalog."""
        self._latest = catalog
        self._arrived.set()

    async def arrived(self) -> None:
        """Wait until there is a catalog."""
        await self._arrived.wait()

    def _known(self) -> Catalog:
        if self._latest is None:
            told = "The list of models is not here yet. Nothing was charged; try again in 2 s."
            raise Unavailable(told, reason="MODEL_LOADING", retry_after_s=2.0)
        return self._latest


class CatalogWatcher:
    """Keeps a CatalogView up to date until it is cancelled."""

    def __init__(self, scheduler: Scheduler, view: CatalogView, clock: Clock) -> None:
        self._scheduler = scheduler
        self._view = view
        self._clock = clock
        self._backoff = Backoff()

    async def run(self) -> None:
        """Follow the scheduler, again and again."""
        while True:
            try:
                await self._follow()
            except DarkroomError as error:
                logger.warning("the catalog is not being followed", extra={"reason": error.reason})
            await self._clock.sleep(self._backoff.next_s())

    async def _follow(self) -> None:
        async for catalog in self._scheduler.watch_catalog():
            self._backoff.reset()
            self._view.replace(catalog)
            logger.info("catalog taken", extra={"version": catalog.version, "models": len(catalog.models)})
