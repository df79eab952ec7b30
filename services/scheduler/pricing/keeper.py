"""Keeps the book: hears what attempts cost, and every few seconds brings the next prices into force.

Prices are written down before anybody is told of them, so that no version ever means two things. Those that cannot be
read again are set aside and learned anew, from the version and the reference devices of the anchor on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from libs.alarm import Alarm
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from services.scheduler.catalog import CatalogKeeper
from services.scheduler.job import Job
from services.scheduler.pricing.anchor import Anchor
from services.scheduler.pricing.book import PriceBook
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.unreadable import UNREADABLE

logger = logging.getLogger(__name__)

DOCUMENT, ANCHOR, SET_ASIDE = "prices", "prices_anchor", "prices_unreadable"
EVERY_S = 5.0
SAVE_EVERY_S = 60.0  # what is learned in between is no loss: it is learned again
MOST_A_SECOND = 50  # attempts that are learned from: a sample is enough
KEPT_MODELS = 20  # that are listed no more

R = TypeVar("R")


class PriceKeeper:
    """Is told of attempts; `run` renews the prices."""

    def __init__(self, store: JobStore, catalog: CatalogKeeper, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._lead = lead
        self._news = Alarm(clock)
        self._second, self._heard = 0, 0
        self._saved_at = clock.monotonic()
        self._anchor = Anchor()  # as it was written last
        self.book = PriceBook()
        self.unreadable = 0  # documents that were set aside at this start
        self.outcomes: Counter[bool] = Counter()  # attempts by whether anything was learned from them

    async def load(self) -> None:
        """Take up the prices that were kept; of those that cannot be read, their version and what units mean."""
        anchor = await self._read(ANCHOR, Anchor.from_document)
        catalog_version = await self._read(DOCUMENT, self._restore)
        if catalog_version is None and anchor is not None:
            self.book.hold_to(anchor)
            catalog_version = anchor.catalog_version + 1
        elif anchor is not None:
            self.book.remember(anchor)
        if catalog_version is not None:
            self._catalog.price(self.book.table, catalog_version)

    def _restore(self, document: dict[str, Any]) -> int:
        catalog_version = int(document["catalog_version"])
        self.book.restore(document)
        return catalog_version

    async def _read(self, name: str, read: Callable[[dict[str, Any]], R]) -> R | None:
        """Return what a document says; None where there is none, or when it must be set aside."""
        try:
            document = await persistently(self._clock, lambda: self._store.load_document(name))
            return None if document is None else read(document)
        except UNREADABLE:
            self.unreadable += 1
            aside = SET_ASIDE if name == DOCUMENT else f"{name}_unreadable"
            logger.exception("kept prices cannot be read: they are set aside", extra={"document": name, "aside": aside})
        epoch = self._lead.epoch
        await persistently(self._clock, lambda: self._store.rename_document(name, aside, epoch))
        return None

    def worth(self, job: Job, worker: WorkerRecord) -> float:
        """Return the units of a millisecond of a worker's device."""
        return self.book.worth(job.model_version, worker.class_of_device)

    def drew(self, job: Job, worker: WorkerRecord, gpu_ms: float) -> None:
        """Take in an attempt that drew all pictures of a job, from the first step on."""
        if not self._may_learn():
            return
        learned = self.book.learn(job.model_version, worker.class_of_device, job.spec, gpu_ms)
        self.outcomes[learned] += 1
        if not learned:
            extra = {"job_id": job.id, "worker_id": worker.worker_id, "gpu_ms": gpu_ms}
            logger.info("an attempt cost what nobody believes", extra=extra)
        self._news.ring()

    async def run(self) -> None:
        """Renew the prices while something is learned, until cancelled."""
        while True:
            await self._news.wait()
            await self._renew()
            await self._clock.sleep(EVERY_S)

    async def _renew(self) -> None:
        before = self.book.table
        for _ in self.book.renew():
            await asyncio.sleep(0)
        table = self.book.table
        if table is before and self._clock.monotonic() < self._saved_at + SAVE_EVERY_S:
            return
        self.book.forget(KEPT_MODELS, frozenset(model.pinned for model in self._catalog.catalog.models))
        version = self._catalog.catalog.version + (table is not before)
        await self._keep_anchor(version)
        document = self.book.to_document() | {"catalog_version": version}
        await persistently(self._clock, lambda: self._store.save_document(DOCUMENT, document, self._lead.epoch))
        self._saved_at = self._clock.monotonic()
        if table is not before:
            self._catalog.price(table, version)
            logger.info("prices changed", extra={"version": table.version})

    async def _keep_anchor(self, catalog_version: int) -> None:
        """Write it before the prices: a version that it does not know of yet was told to nobody."""
        anchor = self.book.anchor(catalog_version)
        if anchor != self._anchor:
            document = anchor.to_document()
            await persistently(self._clock, lambda: self._store.save_document(ANCHOR, document, self._lead.epoch))
            self._anchor = anchor

    def _may_learn(self) -> bool:
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._heard = second, 0
        self._heard += 1
        return self._heard <= MOST_A_SECOND
