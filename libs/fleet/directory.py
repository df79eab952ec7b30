"""The scheduler's side: the workers that are alive, as far as is known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType

from libs.clock import Clock, SystemClock
from libs.coordination.registry import Registry, Snapshot
from libs.fleet.record import WORKERS_PREFIX, BadRecord, WorkerRecord
from libs.ids import WorkerId

LEAST_BETWEEN_S = 0.1  # from one change that is told to the next; records are a second old anyway
_log = logging.getLogger(__name__)


class Directory:
    """Follows the fleet while `run` runs. When the registry is gone the last known fleet stays.

    `changed` is notified after every change of the fleet or of its staleness; changes that come close together are one,
    so that a thousand busy workers cost little more than ten.
    """

    def __init__(self, registry: Registry, clock: Clock | None = None) -> None:
        self._registry = registry
        self._clock = clock or SystemClock()
        self._latest: Snapshot | None = None
        self._news = asyncio.Event()
        self._read: dict[str, tuple[bytes, WorkerRecord | None]] = {}  # by key; None for a record not readable
        self._workers: Mapping[WorkerId, WorkerRecord] = MappingProxyType({})
        self.stale_since: float | None = None  # Unix seconds
        self.synced = False  # whether the registry has answered at least once
        self.changed = asyncio.Condition()

    def workers(self) -> Mapping[WorkerId, WorkerRecord]:
        """Return the fleet as last known; the mapping is not touched later."""
        return self._workers

    async def wait_for(self, wanted: Callable[[], bool]) -> None:
        """Wait until something holds that depends on the fleet, like `lambda: worker_id in directory.workers()`."""
        async with self.changed:
            await self.changed.wait_for(wanted)

    async def run(self) -> None:
        """Follow the registry until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_on())
            tasks.create_task(self._tell())

    async def _read_on(self) -> None:
        async with aclosing(self._registry.watch(WORKERS_PREFIX)) as snapshots:
            async for snapshot in snapshots:
                if snapshot.stale_since is not None:
                    self._take_latest()  # what came just before is the fleet as last known
                self._latest = snapshot
                self._news.set()

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            self._take_latest()
            async with self.changed:
                self.changed.notify_all()
            await self._clock.sleep(LEAST_BETWEEN_S)

    def _take_latest(self) -> None:
        latest, self._latest = self._latest, None
        if latest is not None:
            self._take(latest)

    def _take(self, snapshot: Snapshot) -> None:
        self.stale_since = snapshot.stale_since
        if snapshot.stale_since is not None:
            return
        self.synced = True
        before = self._read  # records are read once per value: a busy fleet changes a few of many at a time
        self._read = {
            key: known if (known := before.get(key)) is not None and known[0] == value else self._parse(key, value)
            for key, value in snapshot.values.items()
        }
        workers = {record.worker_id: record for _, record in self._read.values() if record is not None}
        self._workers = MappingProxyType(workers)

    @staticmethod
    def _parse(key: str, value: bytes) -> tuple[bytes, WorkerRecord | None]:
        try:
            record = WorkerRecord.from_json(value)
            if record.key != key:
                raise BadRecord(f"it is the record of {record.worker_id}")
        except BadRecord as error:
            _log.warning("worker record ignored", extra={"key": key, "cause": error.message})
            return value, None
        return value, record
