"""Claims deliveries, has them sent and says what came of them. Any number of gateways do so side by side.

A delivery is this gateway's for its lease. What is not reported until then is due again where it is kept: it may
arrive twice, under the same id, and is never lost. There is an agent for each service that keeps deliveries, each with
places of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from libs.alarm import Alarm
from libs.backoff import Backoff
from libs.clients.deliveries import Busy, Claimed, D, Delivery, Outcome, Result
from libs.clock import Clock
from libs.errors import DarkroomError
from services.gateway.webhooks.measures import SourceMeasures
from services.gateway.webhooks.places import Places

logger = logging.getLogger(__name__)

BATCH = 32
GIVE_BACK_S = 2.0  # of the time for stopping
_RETURNED = Result(Outcome.RETURNED, reason="no_place")
_STOPPED = Result(Outcome.RETURNED, reason="stopped")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a service is asked when nothing was due, and for how long a claim holds."""

    look_every_s: float = 1.0
    lease_s: float = 60.0  # more than twice what a try takes, with its wait for a look-up


class Deliveries(Protocol[D]):
    """Where deliveries come from. Both may raise DarkroomError."""

    async def claim(self, limit: int, lease_s: float, busy: Busy) -> Claimed[D]:
        """Lease deliveries that are due, none to those who are busy."""
        ...

    async def report(self, delivery: D, result: Result) -> bool:
        """Say what came of a try, and return whether it was the last one of those that all failed."""
        ...


class Sends(Protocol):
    """Who tries a delivery."""

    async def send(self, delivery: Delivery) -> Result:
        """Try once; whatever goes wrong is a result."""
        ...


class WebhookAgent(Generic[D]):
    """Delivers while `run` runs."""

    def __init__(
        self,
        deliveries: Deliveries[D],
        sender: Sends,
        places: Places,
        measures: SourceMeasures,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._measures = measures
        self._clock = clock
        self._pace = pace or Pace()
        self._places = places
        self._underway: dict[asyncio.Task[None], D] = {}
        self._woken = Alarm(clock)  # rung when there is reason to look before its time
        self._stopping = False
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled or drained."""
        backoff = Backoff(first_s=0.2, most_s=5.0)
        try:
            async with asyncio.TaskGroup() as tries:
                while not self._stopping:
                    wait_s = await self._look(tries, backoff)
                    await self._woken.wait(self._clock.now() + wait_s)
        finally:
            self._ended.set()

    async def drain(self, within_s: float) -> None:
        """Claim no more, finish what is underway, and give back in time what takes longer."""
        self._stopping = True
        self._woken.ring()
        try:
            async with asyncio.timeout(max(0.0, within_s - GIVE_BACK_S)):
                await self._ended.wait()
        except TimeoutError:
            await self._give_back()

    async def _look(self, tries: asyncio.TaskGroup, backoff: Backoff) -> float:
        """Begin what is due; return after how many seconds it is worth looking again."""
        try:
            wait_s = await self._claim(tries)
        except DarkroomError as error:  # the service is away or starts again
            logger.warning("no deliveries are claimed", extra={"reason": error.reason})
            return backoff.next_s()
        except Exception:  # what one claim holds must not end all deliveries
            logger.exception("no deliveries are claimed")
            return backoff.next_s()
        backoff.reset()
        return wait_s

    async def _claim(self, tries: asyncio.TaskGroup) -> float:
        limit, until_s = min(BATCH, self._places.free), self._clock.monotonic() + self._pace.lease_s
        if limit <= 0:
            return self._pace.look_every_s
        claimed = await self._deliveries.claim(limit, self._pace.lease_s, self._places.busy())
        self._measures.waiting(claimed.waiting)
        for delivery in claimed.unreadable:
            result = Result(Outcome.FAILED, reason="unreadable")
            self._begin(tries, delivery, self._settle(delivery, result, until_s))
        begun = 0
        for delivery in claimed.deliveries:
            if not self._stopping and self._places.take(delivery):
                self._begin(tries, delivery, self._deliver(delivery, until_s))
                begun += 1
            else:
                self._begin(tries, delivery, self._settle(delivery, _RETURNED, until_s))
        return 0.0 if begun else self._pace.look_every_s

    def _begin(self, tries: asyncio.TaskGroup, delivery: D, doing: Coroutine[Any, Any, None]) -> None:
        task = tries.create_task(doing)
        self._underway[task] = delivery
        task.add_done_callback(self._underway.pop)

    async def _deliver(self, delivery: D, until_s: float) -> None:
        try:
            result = await self._try(delivery)
        finally:
            if self._places.leave(delivery):
                self._woken.ring()
        await self._settle(delivery, result, until_s)

    async def _try(self, delivery: Delivery) -> Result:
        try:
            return await self._sender.send(delivery)
        except Exception:  # one delivery that cannot be sent must not end the others
            logger.exception("a webhook could not be tried", extra=dict(delivery.subject))
            return Result(Outcome.FAILED, reason="internal")

    async def _settle(self, delivery: D, result: Result, until_s: float) -> None:
        """Say what came of a delivery, to whoever counts and to the service."""
        self._measures.tried(result)
        if result.outcome is not Outcome.RETURNED:
            logger.info("webhook tried", extra=_fields(delivery, result))
        if await self._report(delivery, result, until_s):
            self._measures.given_up()
            logger.warning("webhook given up", extra=_fields(delivery, result))

    async def _report(self, delivery: D, result: Result, until_s: float) -> bool:
        backoff = Backoff(first_s=0.2, most_s=5.0)
        while True:
            try:
                return await self._deliveries.report(delivery, result)
            except DarkroomError as error:
                cause = error.reason
            except Exception:  # the same as below: the lease ends, and it is claimed again
                logger.exception("a webhook is not reported", extra=_fields(delivery, result))
                cause = "internal"
            if self._clock.monotonic() > until_s:
                logger.warning("a webhook is not reported", extra=_fields(delivery, result) | {"cause": cause})
                return False
            await self._clock.sleep(backoff.next_s())

    async def _give_back(self) -> None:
        left = dict(self._underway)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        logger.warning("webhooks are given back", extra={"deliveries": len(left)})
        told = (self._deliveries.report(delivery, _STOPPED) for delivery in left.values())
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await asyncio.gather(*told, return_exceptions=True)
        except TimeoutError:
            logger.warning("webhooks are left to the end of their lease")


def _fields(delivery: Delivery, result: Result) -> dict[str, object]:
    told = dict(delivery.subject) | {"tries": delivery.tries, "host": delivery.host}
    return told | {"outcome": result.outcome.value, "status": result.status, "reason": result.reason}
