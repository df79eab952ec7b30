"""Makes a ledger whole that was emptied or started again.

Emptied: what usage knows is put back before anybody decides by it. Started again with its file: the last moment before
its end may be missing, a second by Redis's `appendfsync everysec`; what was settled since is settled there once more.
What is in flight comes back with the scheduler's next renewal.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from libs.clock import Clock
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from services.ratelimiter.ledgers.rebuilding import Rebuilder
from services.ratelimiter.ledgers.redis_line import LedgerLost
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage.book import UsageBook

logger = logging.getLogger(__name__)

_MARGIN_S = 5.0  # the ledger notes every second that it lives, and clocks differ a little


class Restorable(Protocol):
    """A ledger that can lose its data. Raises LedgerAway when it does not answer, or another process is at this."""

    async def restored_s(self) -> float:
        """Return as of when it was last put together from usage, in Unix seconds. Raises LedgerLost when it is not
        known to be whole."""
        ...

    async def adopt(self) -> float | None:
        """Declare what it kept over another start whole; return when it was last alive, None when nothing was kept."""
        ...

    async def unsettled_s(self) -> float | None:
        """Return since when settlements may be missing in what was adopted; None when none are."""
        ...

    async def settled(self, since_s: float) -> None:
        """Note that none are missing since then."""
        ...

    async def restore(self, known: Mapping[AccountId, Balance], as_of_s: float) -> None:
        """Fill an empty one with what was known at a moment, and declare it whole, unless another process did."""
        ...


class Restorer:
    """Looks whether the ledger of `whole` is what it should be, and makes it so."""

    def __init__(self, ledger: Restorable, whole: Limiter, tariffs: Tariffs, usage: UsageBook, clock: Clock) -> None:
        self._ledger, self._whole = ledger, whole
        self._tariffs, self._usage, self._clock = tariffs, usage, clock

    async def ensure(self) -> float:
        """Return as of when the ledger was last put together. Raises Unavailable when it or the database is away."""
        try:
            await self._ledger.restored_s()
        except LedgerLost:
            if await self._ledger.adopt() is None:
                await self._fill()
        unsettled_s = await self._ledger.unsettled_s()
        if unsettled_s is not None:  # by this process, or by one that ended before it was through
            await self._settle_since(unsettled_s - _MARGIN_S)
            await self._ledger.settled(unsettled_s)
        return await self._ledger.restored_s()

    async def _fill(self) -> None:
        memory, as_of_s = MemoryLedger(self._clock), self._clock.now()
        await Rebuilder(self._tariffs, memory, self._usage).rebuild(as_of_s)
        await self._ledger.restore(memory.balances, as_of_s)
        logger.warning("the ledger was empty; filled it from usage", extra={"accounts": len(memory.balances)})

    async def _settle_since(self, since_s: float) -> None:
        rows = await self._usage.since(since_s)
        for row in rows:
            settlement = row.settlement
            await self._whole.charge(settlement.hold, settlement.charge, row.reserved_s, forgotten_too=True)
        logger.warning("the ledger was started again", extra={"settled_since": len(rows)})
