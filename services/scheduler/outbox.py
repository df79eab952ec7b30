"""Delivers what was committed with a job to the limiter, at least once: `confirm` and `settle`.

Each message carries all that a limiter needs that has forgotten the reservation, and counts once there however often
it comes. While the limiter is gone the messages wait in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from libs import errors
from libs.clock import Clock
from libs.coordination.backoff import Backoff
from services.scheduler.alarm import Alarm
from services.scheduler.instruments import Instruments
from services.scheduler.persistence import persistently
from services.scheduler.store import JobStore, PendingMessage

logger = logging.getLogger(__name__)

BATCH = 64
LOOK_EVERY_S = 5.0  # also without a ring: for what was due later
REFUSED_RETRY_S = 60.0  # a message the limiter refuses is our fault; it must not be lost nor hold up the others


class Limiter(Protocol):
    """Who takes the messages."""

    async def deliver(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hand over a message. Raises Unavailable while the limiter is gone, other DarkroomErrors when it refuses."""
        ...


class Outbox:
    """Delivers while `run` runs."""

    def __init__(self, store: JobStore, limiter: Limiter, instruments: Instruments, clock: Clock) -> None:
        self._store = store
        self._limiter = limiter
        self._instruments = instruments
        self._clock = clock
        self._alarm = Alarm(clock)

    def ring(self) -> None:
        """Say that something was committed to be delivered."""
        self._alarm.ring()

    async def run(self) -> None:
        """Deliver until cancelled."""
        backoff = Backoff(first_s=0.2, most_s=LOOK_EVERY_S)
        while True:
            pending = await persistently(self._clock, lambda: self._store.pending_messages(BATCH, self._clock.now()))
            if not pending:
                await self._alarm.wait(self._clock.now() + LOOK_EVERY_S)
            elif await self._deliver(pending):
                backoff.reset()
            else:
                await self._clock.sleep(backoff.next_s())

    async def _deliver(self, pending: list[PendingMessage]) -> bool:
        """Deliver a batch side by side; False when the limiter is gone and what is left must wait."""
        results = await asyncio.gather(*(self._hand_over(message) for message in pending))
        sent = [message.id for message, arrived in zip(pending, results, strict=True) if arrived]
        if sent:
            await persistently(self._clock, lambda: self._store.messages_sent(sent))
        return None not in results

    async def _hand_over(self, message: PendingMessage) -> bool | None:
        """Return True when it arrived, False when it was refused, None when nobody answered."""
        try:
            await self._limiter.deliver(message.kind, message.payload)
        except errors.Unavailable:
            self._instruments.message(message.kind, "unavailable")
            return None
        except errors.DarkroomError as error:
            extra = {"job_id": message.payload.get("reservation_id"), "kind": message.kind, "cause": error.reason}
            logger.error("the limiter refused a message", extra=extra)
            self._instruments.message(message.kind, "refused")
            retry_at = self._clock.now() + REFUSED_RETRY_S
            await persistently(self._clock, lambda: self._store.message_failed(message.id, retry_at))
            return False
        self._instruments.message(message.kind, "delivered")
        return True
