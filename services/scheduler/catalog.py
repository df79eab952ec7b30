"""The catalog and the cost table: follows the fleet, asks each new worker what it can draw, tells who watches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from libs import errors
from libs.alarm import Alarm
from libs.backoff import Backoff
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.generation.cost import CostTable
from libs.generation.model import Model
from libs.ids import WorkerId
from services.scheduler.catalog_merge import (
    Catalog,
    Descriptions,
    Tally,
    alike,
    forget_replaced,
    from_document,
    merge,
    tally_of,
    to_document,
)
from services.scheduler.placement.fleet import Fleet
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)

DOCUMENT = "catalog"
LARGE, REST_S_PER_WORKER = 50, 0.001
ASKED_AT_ONCE = 16  # workers; a large fleet that comes all at once must not hold up everything else


class CatalogKeeper:
    """Keeps the catalog while `run` runs; it is kept in the store too, for the next start."""

    def __init__(self, store: JobStore, fleet: Fleet, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._lead = lead
        self._described: dict[WorkerId, Sequence[Model]] = {}
        self._asked: dict[WorkerId, tuple[str, tuple[str, ...]]] = {}
        self._seen: Mapping[WorkerId, WorkerRecord] | None = None  # the fleet that was looked at last
        self._merged: tuple[Tally, Descriptions] | None = None  # what the catalog was made of
        self._turn = asyncio.Semaphore(ASKED_AT_ONCE)
        self._alarm = Alarm(clock)
        self._changed = asyncio.Event()
        self._stopping = False
        self.catalog = Catalog()

    def stop(self) -> None:
        """End every watch: the process goes away."""
        self._stopping = True
        self._changed.set()

    async def load(self) -> None:
        """Take up the catalog that was kept."""
        document = await persistently(self._clock, lambda: self._store.load_document(DOCUMENT))
        if document is not None:
            self.catalog, self._described = from_document(document)

    def price(self, prices: CostTable, version: int) -> None:
        """Put prices into force and tell who watches; the catalog's version becomes at least `version`."""
        self._tell(replace(self.catalog, version=max(version, self.catalog.version + 1), prices=prices))

    def fleet_changed(self) -> None:
        """Say that workers came, went or changed, or what they were given, which is nothing new here."""
        if self._fleet.workers() is not self._seen:
            self._alarm.ring()

    async def watch(self) -> AsyncGenerator[Catalog, None]:
        """Yield the catalog, then again after every change; changes that come together are one. Ends with `stop`."""
        while not self._stopping:
            changed, catalog = self._changed, self.catalog
            yield catalog
            if self.catalog is catalog:
                await changed.wait()

    async def run(self) -> None:
        """Follow the fleet until cancelled."""
        async with asyncio.TaskGroup() as asking:
            while True:
                self._ask_the_new(asking)
                await self._refresh()
                await self._rest()
                await self._alarm.wait()

    async def _rest(self) -> None:
        """Leave a large fleet alone for a while: it changes all the time, and what it can draw hardly ever."""
        workers = len(self._fleet.workers())
        if workers >= LARGE:
            await self._clock.sleep(workers * REST_S_PER_WORKER)

    def _ask_the_new(self, asking: asyncio.TaskGroup) -> None:
        alive = self._seen = self._fleet.workers()
        self._asked = {worker_id: state for worker_id, state in self._asked.items() if worker_id in alive}
        for record in alive.values():
            if self._asked.get(record.worker_id) != _state(record):
                self._asked[record.worker_id] = _state(record)
                asking.create_task(self._ask(record))

    async def _ask(self, record: WorkerRecord) -> None:
        """Have a worker describe its models; a worker that does not answer is asked again while it is there."""
        backoff = Backoff(first_s=0.2, most_s=10.0)
        while self._fleet.workers().get(record.worker_id) is not None:
            if self._asked.get(record.worker_id) != _state(record):
                return  # a newer question is under way
            try:
                async with self._turn:
                    told = await self._fleet.server(record).describe_models()
                self._described[record.worker_id] = alike(self._described, told)
            except errors.DarkroomError as error:
                extra = {"worker_id": record.worker_id, "cause": error.reason}
                logger.warning("a worker does not describe its models", extra=extra)
                await self._clock.sleep(backoff.next_s())
            else:
                self._alarm.ring()
                return
        self._asked.pop(record.worker_id, None)

    async def _refresh(self) -> None:
        alive = self._fleet.workers()
        self._described = forget_replaced(self._described, alive)
        made_of = tally_of(alive), self._described
        if made_of == self._merged:  # so it is nearly always: records change with every job
            return
        self._merged = made_of[0], dict(self._described)
        catalog = merge(self.catalog, self._described, alive)
        if catalog is self.catalog:
            return
        self._tell(catalog)
        logger.info("catalog changed", extra={"version": catalog.version, "models": len(catalog.models)})
        document = to_document(catalog, self._described)
        await persistently(self._clock, lambda: self._store.save_document(DOCUMENT, document, self._lead.epoch))

    def _tell(self, catalog: Catalog) -> None:
        self.catalog = catalog
        told, self._changed = self._changed, asyncio.Event()
        told.set()


def _state(record: WorkerRecord) -> tuple[str, tuple[str, ...]]:
    return record.incarnation, record.models  # a model that became unusable is described again
