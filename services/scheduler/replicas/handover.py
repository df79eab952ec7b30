"""The leader takes in what other replicas accepted, or want stopped.

Each look carries the leader's epoch, so a leader that was deposed while it had nothing to write, or stood still, finds
out here and ends.
"""

from __future__ import annotations

import asyncio

from libs.clock import Clock
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore

LOOK_EVERY_S = 0.1
BATCH = 64


class Handover:
    """Looks for notes while `run` runs."""

    def __init__(self, store: JobStore, reconciler: Reconciler, clock: Clock) -> None:
        self._store = store
        self._reconciler = reconciler
        self._clock = clock

    async def run(self) -> None:
        """Take notes until cancelled. Raises Deposed."""
        while True:
            if not await self.look():
                await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> bool:
        """Take in what lies there; returns whether there was anything. Raises Deposed."""
        notes = await persistently(self._clock, lambda: self._store.notes(self._reconciler.epoch, BATCH))
        if not notes:
            return False
        await asyncio.gather(*(self._reconciler.resolve(job_id) for job_id in {note.job_id for note in notes}))
        await persistently(self._clock, lambda: self._store.notes_taken([note.id for note in notes]))
        return True
