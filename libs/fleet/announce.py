"""The modelserver's side: keeps this worker's record alive and current."""

from __future__ import annotations

import asyncio

from libs.clock import Clock
from libs.coordination.registry import Registry
from libs.fleet.record import WorkerRecord

_LEAST_BETWEEN_PUTS_S = 1.0  # rows in use change with every job; nobody needs them faster than this


class Announcer:
    """Announces one worker while `run` runs: at most one write a second, and the last state always gets there."""

    def __init__(self, registry: Registry, record: WorkerRecord, *, lease_ttl_s: int, clock: Clock) -> None:
        self._presence = registry.announce(lease_ttl_s)
        self._record = record
        self._clock = clock
        self._changed = asyncio.Event()

    @property
    def record(self) -> WorkerRecord:
        """The record as last published."""
        return self._record

    def publish(self, record: WorkerRecord) -> None:
        """Announce this from now on, like `publish(replace(announcer.record, rows_in_use=3))`. Raises BadRecord."""
        if record.worker_id != self._record.worker_id:
            raise ValueError("a worker does not change its name")
        record.to_json()  # refused here, where the caller can see it, not later in `run`
        if record != self._record:
            self._record = record
            self._changed.set()

    async def run(self) -> None:
        """Announce until cancelled, then withdraw the record at once. Raises BadRecord if it never fitted."""
        self._presence.put(self._record.key, self._record.to_json())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._presence.run())
            tasks.create_task(self._put_changes())

    async def _put_changes(self) -> None:
        while True:
            await self._clock.sleep(_LEAST_BETWEEN_PUTS_S)
            await self._changed.wait()
            self._changed.clear()
            self._presence.put(self._record.key, self._record.to_json())
