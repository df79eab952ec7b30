"""Claims deliveries, has them sent and says what came of them. Any number of gateways do so side by side.

A delivery is this gateway's for its lease. What is not reported until then is due again at the scheduler: it may
arrive twice, under the same id, and is never lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from opentelemetry.metrics import Meter

from libs.backoff import Backoff
from libs.clients.deliveries import Claimed, Delivery, Outcome, Result
from libs.clock import Clock
from libs.errors import DarkroomError
from services.gateway.webhooks.sender import TRY_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logger = logging.getLogger(__name__)

BATCH = 32
MOST_UNDERWAY = 128
MOST_A_HOST = 8  # side by side; a slow receiver must not take every place


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the scheduler is asked when nothing was due, and for how long a claim holds."""

    look_every_s: float = 1.0
    lease_s: float = 4 * TRY_S


class Deliveries(Protocol):
    """Where deliveries come from. Both may raise DarkroomError."""

    async def claim(self, limit: int, lease_s: float, busy_hosts: Collection[str]) -> Claimed:
        """Lease deliveries that are due, none to `busy_hosts`."""
        ...

    async def report(self, delivery: Delivery, result: Result) -> None:
        """Say what came of a try."""
        ...


class Sends(Protocol):
    """Who tries a delivery."""

    async def send(self, delivery: Delivery) -> Result:
        """Try once; whatever goes wrong is a result."""
        ...


class WebhookMeasures:
    """The series of webhooks; listed in docs/metrics.md."""

    def __init__(self, meter: Meter) -> None:
        self._tries = meter.create_counter("darkroom_webhooks_total", description="Tries of webhook deliveries.")
        self._waiting = meter.create_gauge("darkroom_webhooks_waiting", description="Deliveries that are not over.")
        for outcome in Outcome:
            self._tries.add(0, {"outcome": outcome.value.lower(), "reason": ""})

    def tried(self, result: Result) -> None:
        """Count a try."""
        self._tries.add(1, {"outcome": result.outcome.value.lower(), "reason": result.reason})

    def waiting(self, deliveries: int) -> None:
        """Note how many are not over."""
        self._waiting.set(deliveries)


class WebhookAgent:
    """Delivers while `run` runs."""

    def __init__(
        self, deliveries: Deliveries, sender: Sends, measures: WebhookMeasures, clock: Clock, pace: Pace | None = None
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._measures = measures
        self._clock = clock
        self._pace = pace or Pace()
        self._hosts = _Hosts()
        self._underway: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        backoff = Backoff(first_s=0.2, most_s=5.0)
        async with asyncio.TaskGroup() as tries:
            while True:
                try:
                    wait_s = await self._claim(tries)
                    backoff.reset()
                except DarkroomError as error:  # the scheduler is away or starts again
                    logger.warning("no deliveries are claimed", extra={"reason": error.reason})
                    wait_s = backoff.next_s()
                await self._clock.sleep(wait_s)
                if len(self._underway) >= MOST_UNDERWAY:
                    await asyncio.wait(self._underway, return_when=asyncio.FIRST_COMPLETED)

    async def _claim(self, tries: asyncio.TaskGroup) -> float:
        """Begin what is due; return after how many seconds it is worth looking again."""
        limit, until_s = min(BATCH, MOST_UNDERWAY - len(self._underway)), self._clock.monotonic() + self._pace.lease_s
        claimed = await self._deliveries.claim(limit, self._pace.lease_s, self._hosts.full())
        self._measures.waiting(claimed.waiting)
        for delivery in claimed.deliveries:
            task = tries.create_task(self._deliver(delivery, until_s))
            self._underway.add(task)
            task.add_done_callback(self._underway.discard)
        return 0.0 if len(claimed.deliveries) == limit else self._pace.look_every_s

    async def _deliver(self, delivery: Delivery, until_s: float) -> None:
        async with self._hosts.place(delivery.host):
            if self._clock.monotonic() > until_s - min(TRY_S, self._pace.lease_s / 2):
                return  # too little is left of the lease; it is claimed again
            result = await self._try(delivery)
        self._measures.tried(result)
        logger.info("webhook tried", extra=_fields(delivery, result))
        await self._report(delivery, result, until_s)

    async def _try(self, delivery: Delivery) -> Result:
        try:
            return await self._sender.send(delivery)
        except Exception:  # one delivery that cannot be sent must not end the others
            logger.exception("a webhook could not be tried", extra={"job_id": delivery.job_id})
            return Result(Outcome.FAILED, reason="internal")

    async def _report(self, delivery: Delivery, result: Result, until_s: float) -> None:
        backoff = Backoff(first_s=0.2, most_s=5.0)
        while True:
            try:
                return await self._deliveries.report(delivery, result)
            except DarkroomError as error:
                if self._clock.monotonic() > until_s:
                    logger.warning(
                        "a webhook is not reported", extra=_fields(delivery, result) | {"cause": error.reason}
                    )
                    return None
            await self._clock.sleep(backoff.next_s())


class _Hosts:
    """How many tries go to each host; beyond MOST_A_HOST they wait for one another."""

    def __init__(self) -> None:
        self._wanted: Counter[str] = Counter()
        self._slots: dict[str, asyncio.Semaphore] = {}

    def full(self) -> list[str]:
        return [host for host, wanted in self._wanted.items() if wanted >= MOST_A_HOST]

    @asynccontextmanager
    async def place(self, host: str) -> AsyncIterator[None]:
        self._wanted[host] += 1
        try:
            async with self._slots.setdefault(host, asyncio.Semaphore(MOST_A_HOST)):
                yield
        finally:
            self._wanted[host] -= 1
            if not self._wanted[host]:
                del self._wanted[host], self._slots[host]


def _fields(delivery: Delivery, result: Result) -> dict[str, object]:
    told = {"job_id": delivery.job_id, "sequence": delivery.sequence, "tries": delivery.tries, "host": delivery.host}
    return told | {"outcome": result.outcome.value, "status": result.status, "reason": result.reason}
