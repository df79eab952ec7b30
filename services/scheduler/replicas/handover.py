"""The leader takes in what other replicas accepted, or want stopped.

The store says when there is something; since a word can be lost, the leader also looks from time to time. Each look
carries its epoch, so a leader that was deposed while it had nothing to write, or stood still, finds out here and ends.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from libs.alarm import Alarm
from libs.backoff import Backoff
from libs.clock import Clock
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore, StoreUnavailable

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.1  # while the store does not tell
LOOK_ANYWAY_S = 1.0  # while it does
BATCH = 64


class Handover:
    """Takes notes while `run` runs."""

    def __init__(self, store: JobStore, reconciler: Reconciler, clock: Clock) -> None:
        self._store = store
        self._reconciler = reconciler
        self._clock = clock
        self._alarm = Alarm(clock)
        self.hears = False  # whether the store tells

    async def run(self) -> None:
        """Take notes until cancelled. Raises Deposed (in a group)."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            while True:
                if not await self.look():
                    every_s = LOOK_ANYWAY_S if self.hears else LOOK_EVERY_S
                    await self._alarm.wait(self._clock.now() + every_s)

    async def look(self) -> bool:
        """Take in what lies there; returns whether there was anything. Raises Deposed."""
        notes = await persistently(self._clock, lambda: self._store.notes(self._reconciler.epoch, BATCH))
        if not notes:
            return False
        await asyncio.gather(
            *(self._reconciler.told_of(job_id) for job_id in dict.fromkeys(note.job_id for note in notes))
        )
        await persistently(self._clock, lambda: self._store.notes_taken([note.id for note in notes]))
        return True

    async def _listen(self) -> None:
        """Have the store tell, again whenever it cannot any more; returns when it never can."""
        backoff = Backoff()
        while True:
            try:
                async with aclosing(self._store.hear_notes()) as told:
                    async for _ in told:
                        backoff.reset()
                        self.hears = True
                        self._alarm.ring()
                return
            except StoreUnavailable as error:
                logger.warning("the job store does not tell of notes", extra={"cause": str(error)})
            self.hears = False
            await self._clock.sleep(backoff.next_s())
