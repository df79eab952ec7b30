"""Brings the ledger back into use after an outage: whole again, told of everything that was answered without it."""

from __future__ import annotations

import logging

from libs.clock import Clock
from libs.errors import InvalidRequest, Unavailable
from services.ratelimiter import agent
from services.ratelimiter.balances.reservation import Step
from services.ratelimiter.ledgers.redis_line import LedgerAway
from services.ratelimiter.ledgers.restoring import Restorer
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.meters import Meters
from services.ratelimiter.outages.journal import Entry, folded
from services.ratelimiter.outages.outage import Standby

logger = logging.getLogger(__name__)

_EVERY_S = 0.25


class Recovery:
    """Owns the way back; `whole` asks the ledger of all. `ttl_s` is how long a reservation waits to be confirmed."""

    def __init__(
        self, whole: Limiter, standby: Standby, restorer: Restorer, clock: Clock, meters: Meters, ttl_s: float
    ) -> None:
        self._whole, self._standby, self._restorer = whole, standby, restorer
        self._clock, self._meters, self._ttl_s = clock, meters, ttl_s
        self._was_away = False

    async def begin(self) -> None:
        """See to the ledger before the first call; without it the process begins in an outage."""
        self._standby.breaker.open_at_once(self._clock.monotonic())
        await self.look()

    async def run(self) -> None:
        """Look until cancelled."""
        await agent.repeat("the way back to the ledger", self._clock, _EVERY_S, self.look)

    async def look(self) -> None:
        """Try the ledger if it is time, and close the breaker once it knows all."""
        breaker, now_s = self._standby.breaker, self._clock.monotonic()
        self._tell_of(away=breaker.is_open)
        idle = not breaker.is_open and self._standby.journal.is_empty
        if idle or not breaker.may_try(now_s):
            return
        try:
            await self._catch_up()
        except Unavailable as error:
            logger.debug("the ledger is not back", extra={"reason": error.message})
            self._failed(error, now_s)
            return
        breaker.close(now_s)
        self._standby.ledger.hand_over()
        self._tell_of(away=False)

    def _failed(self, error: Unavailable, now_s: float) -> None:
        """Wait before the next try; while all else goes on as usual, one try is a call like others."""
        breaker = self._standby.breaker
        if breaker.is_open:
            breaker.open(now_s)
        elif isinstance(error, LedgerAway):
            breaker.failed(now_s, error.exchange)

    async def _catch_up(self) -> None:
        restored_s = await self._restorer.ensure()
        while not self._standby.journal.is_empty:
            part = self._standby.journal.read()
            for entry in folded(part.entries):
                await self._repeat(entry, restored_s)
            self._standby.journal.drop(part.end)
            logger.info("told the ledger what was answered without it", extra={"answers": len(part.entries)})

    async def _repeat(self, entry: Entry, restored_s: float) -> None:
        try:
            await self._apply(entry, restored_s)
        except InvalidRequest as error:  # its tier is gone
            logger.warning("an answer of the journal is left out", extra={"reason": error.message})

    async def _apply(self, entry: Entry, restored_s: float) -> None:
        hold = entry.hold
        if entry.step is Step.RESERVE and entry.at_s + self._ttl_s > self._clock.now():
            await self._whole.reserve(hold)
        elif entry.step is Step.CONFIRM:
            await self._whole.confirm(hold, entry.reserved_s)
        elif entry.step is Step.RELEASE:
            await self._whole.release(hold.tenant_id, hold.reservation_id)
        elif entry.step is Step.SETTLE:
            # What was settled before the ledger was put together from usage is in it already.
            missing = entry.is_first and entry.at_s > restored_s
            await self._whole.charge(hold, entry.charge, entry.reserved_s, forgotten_too=missing)

    def _tell_of(self, *, away: bool) -> None:
        self._meters.ledger_away(away=away)
        if away != self._was_away:
            logger.warning("the ledger is away; a share of the limits is granted" if away else "the ledger is back")
            self._was_away = away
