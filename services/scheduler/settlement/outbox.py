"""Delivers what was committed with a job to the limiter, at least once: `confirm` and `settle`.

Each message carries all that a limiter needs that has forgotten the reservation, and counts once there however often
it comes. While the limiter is gone the messages wait in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol

from libs import errors
from libs.alarm import Alarm
from libs.backoff import Backoff
from libs.clock import Clock
from services.scheduler.instruments import Instruments
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore, PendingMessage

logger = logging.getLogger(__name__)

BATCH = 64
LOOK_EVERY_S = 5.0  # also without a ring: for what was due later
GATHER_S = 0.1  # after a ring: reading, and taking away what arrived, costs the same for one message as for many
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
        self.gather_s = GATHER_S  # 0 where time stands still

    def ring(self) -> None:
        """Say that something was committed to be delivered."""
        self._alarm.ring()

    async def run(self) -> None:
        """Deliver until cancelled."""
        backoff = Backoff(first_s=0.2, most_s=LOOK_EVERY_S)
        while True:
            pending = await persistently(self._clock, lambda: self._store.pending_messages(BATCH, self._clock.now()))
            if not await self._deliver(pending):
                await self._clock.sleep(backoff.next_s())
                continue
            backoff.reset()
            if len(pending) < BATCH:
                await self._gather()

    async def _gather(self) -> None:
        """Wait for a ring and a moment longer; what is committed until then is read together."""
        await self._alarm.wait(self._clock.now() + LOOK_EVERY_S)
        if self.gather_s:
            await self._clock.sleep(self.gather_s)
        self._alarm.still()

    async def _deliver(self, pending: list[PendingMessage]) -> bool:
        """Deliver a batch, jobs side by side; False when the limiter is gone and what is left must wait."""
        by_job: dict[object, list[PendingMessage]] = defaultdict(list)
        for message in pending:
            by_job[message.payload.get("reservation_id")].append(message)
        answers = await asyncio.gather(*(self._hand_over_in_order(messages) for messages in by_job.values()))
        results = [result for answer in answers for result in answer]
        sent = [message.id for message, arrived in results if arrived]
        if sent:
            await persistently(self._clock, lambda: self._store.messages_sent(sent))
        return all(arrived is not None for _, arrived in results)

    async def _hand_over_in_order(self, messages: list[PendingMessage]) -> list[tuple[PendingMessage, bool | None]]:
        """Hand over the messages of one job: a `confirm` beside its `settle` could outlive it as a reservation."""
        results: list[tuple[PendingMessage, bool | None]] = []
        for message in messages:
            results.append((message, await self._hand_over(message)))
            if results[-1][1] is None:
                break
        return results

    async def _hand_over(self, message: PendingMessage) -> bool | None:
        """Return True when it arrived, False when it was refused, None when nobody answered."""
        try:
            await self._limiter.deliver(message.kind, message.payload)
        except errors.Unavailable:
            self._instruments.message(message.kind, "unavailable")
            return None
        except errors.DarkroomError as error:
            logger.error("the limiter refused a message", extra=_fields(message) | {"cause": error.reason})
            return await self._put_off(message)
        except Exception:  # one message that cannot be sent must not end the process, at this start and every other
            logger.exception("a message could not be sent", extra=_fields(message))
            return await self._put_off(message)
        self._instruments.message(message.kind, "delivered")
        return True

    async def _put_off(self, message: PendingMessage) -> bool:
        self._instruments.message(message.kind, "refused")
        retry_at = self._clock.now() + REFUSED_RETRY_S
        await persistently(self._clock, lambda: self._store.message_failed(message.id, retry_at))
        return False


def _fields(message: PendingMessage) -> dict[str, object]:
    return {"job_id": message.payload.get("reservation_id"), "kind": message.kind}
