"""Puts a ledger together again that was emptied or started anew: usage knows what was charged, and whatever it still
holds that is newer stays. Nobody decides by it before that is done."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from libs.clock import Clock
from services.ratelimiter.balance import Balance
from services.ratelimiter.memory_ledger import MemoryLedger
from services.ratelimiter.rebuilding import Rebuilder
from services.ratelimiter.redis_line import LedgerLost
from services.ratelimiter.scope import AccountId
from services.ratelimiter.tariffs import Tariffs
from services.ratelimiter.usage import UsageBook

logger = logging.getLogger(__name__)


class Restorable(Protocol):
    """A ledger that can lose all. Raises LedgerAway when it does not answer."""

    async def restored_s(self) -> float:
        """Return when it was last put together, in Unix seconds. Raises LedgerLost when it has to be."""
        ...

    async def restore(self, known: Mapping[AccountId, Balance]) -> None:
        """Have every account hold at least what is known of it, and declare all of it whole."""
        ...


class Restorer:
    """Looks whether the ledger is whole, and makes it so."""

    def __init__(self, ledger: Restorable, tariffs: Tariffs, usage: UsageBook, clock: Clock) -> None:
        self._ledger, self._tariffs, self._usage, self._clock = ledger, tariffs, usage, clock

    async def ensure(self) -> float:
        """Return when the ledger was last put together. Raises Unavailable when it or the database is away."""
        try:
            return await self._ledger.restored_s()
        except LedgerLost:
            logger.warning("the ledger was emptied or started again; putting it together from usage")
        memory = MemoryLedger(self._clock)
        await Rebuilder(self._tariffs, memory, self._usage).rebuild(self._clock.now())
        await self._ledger.restore(memory.balances)
        logger.info("the ledger is whole again", extra={"accounts": len(memory.balances)})
        return await self._ledger.restored_s()
