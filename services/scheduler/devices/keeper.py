"""Asks the workers each minute what their devices' time went into, and keeps a document a day."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from libs.clock import Clock
from libs.errors import DarkroomError
from libs.fleet.record import WorkerRecord
from libs.ids import WorkerId
from services.scheduler.devices.book import DeviceBook, DeviceCosts, Told, WorkerDay, day_of, from_document
from services.scheduler.placement.fleet import Fleet
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.unreadable import UNREADABLE

logger = logging.getLogger(__name__)

EVERY_S = 60.0
MOST_DAYS = 400
_AT_ONCE = 16  # workers: a thousand answers at once would hold up who dispatches


class DeviceKeeper:
    """Keeps the book of the day while `run` runs; `read` tells of any."""

    def __init__(self, store: JobStore, fleet: Fleet, clock: Clock, lead: Lead) -> None:
        self._store, self._fleet, self._clock, self._lead = store, fleet, clock, lead
        self._book: DeviceBook | None = None
        self.costs = DeviceCosts()  # an operator's word, told with what was spent

    async def run(self) -> None:
        """Ask each minute until cancelled."""
        while True:
            await self.ask()
            await self._clock.sleep(EVERY_S)

    async def ask(self) -> None:
        """Ask every worker and write down what is new."""
        records = list(self._fleet.workers().values())
        book, now = await self._today(), self._clock.now()
        book.turn(now)
        for first in range(0, len(records), _AT_ONCE):
            batch = records[first : first + _AT_ONCE]
            for record, told in zip(batch, await asyncio.gather(*map(self._told, batch)), strict=True):
                if told is not None:
                    book.take(record.worker_id, record.class_of_device, told, now)
        book.keep_only({record.worker_id: record.incarnation for record in records})
        book.asked_s = now
        document = book.to_document()
        await persistently(self._clock, lambda: self._store.save_document(_name(book.day), document, self._lead.epoch))

    async def read(self, from_day: int, to_day: int) -> list[tuple[int, Mapping[WorkerId, WorkerDay]]]:
        """Return what was spent on each day, both included; the latest 400 of them."""
        first = max(from_day, to_day - MOST_DAYS + 1)
        days = [(day, await self._kept(day)) for day in range(first, to_day + 1)]
        return [(day, book.days) for day, book in days if book is not None and book.days]

    async def _told(self, record: WorkerRecord) -> Told | None:
        try:
            return Told(record.incarnation, await self._fleet.server(record).device_time())
        except DarkroomError as error:
            logger.info("a worker did not tell its time", extra={"worker_id": record.worker_id, "cause": error.reason})
            return None

    async def _today(self) -> DeviceBook:
        """Return the book in hand, else what was kept today or yesterday by whoever led before."""
        if self._book is None:
            self._book = await self._begin(self._clock.now())
        return self._book

    async def _begin(self, now_s: float) -> DeviceBook:
        """Return what was kept. What of today cannot be read is set aside; its time is told again from yesterday on."""
        today, fresh = day_of(now_s), DeviceBook(day_of(now_s))
        try:
            kept = await self._load(today)
        except UNREADABLE:
            aside = f"device_time_unreadable/{today}"
            told = "a day of device time cannot be read: it is set aside"
            logger.exception(told, extra={"document": _name(today), "aside": aside})
            epoch = self._lead.epoch
            await persistently(self._clock, lambda: self._store.rename_document(_name(today), aside, epoch))
            kept, fresh.asked_s = None, now_s  # nobody knows how much of what workers tell was counted
        return kept or await self._kept(today - 1) or fresh

    async def _kept(self, day: int) -> DeviceBook | None:
        """Return what can be read of a day."""
        try:
            return await self._load(day)
        except UNREADABLE:
            logger.exception("a day of device time cannot be read", extra={"document": _name(day)})
            return None

    async def _load(self, day: int) -> DeviceBook | None:
        """Return what was kept of a day; raises one of `UNREADABLE`."""
        document = await persistently(self._clock, lambda: self._store.load_document(_name(day)))
        return None if document is None else from_document(day, document)


def _name(day: int) -> str:
    return f"device_time/{day}"
