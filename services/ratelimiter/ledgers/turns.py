"""Calls of one tenant in one process go one after the other: they would only overtake each other in Redis.

Who waits too long, or finds too many before him, is told that his tenant asks too much: that says nothing of Redis, and
nobody else feels it. Who waits behind a call that Redis did not answer need not find that out by himself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from libs.ids import TenantId
from services.ratelimiter.ledgers.ledger import LedgerBusy
from services.ratelimiter.ledgers.redis_line import LedgerAway

_MOST_WAITING = 256  # about as many as have their turn within the patience


class Turns:
    """Whose turn it is, by tenant. `patience_s` is how long a call waits for its own."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._turns: WeakValueDictionary[TenantId, _Turn] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Hold the turn of a tenant. Raises LedgerBusy; LedgerAway when a call before had no answer meanwhile."""
        turn = self._turns.setdefault(tenant_id, _Turn())
        await turn.take(self._patience_s)
        try:
            yield
        except LedgerAway as error:
            turn.unanswered = error.exchange or turn.unanswered
            raise
        finally:
            turn.lock.release()


class _Turn:
    """The turn of one tenant; forgotten when nobody has it or waits for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.unanswered = 0
        self._waiting = 0

    async def take(self, patience_s: float) -> None:
        """Wait for it."""
        if self._waiting >= _MOST_WAITING:
            raise LedgerBusy.now()
        before = self.unanswered
        self._waiting += 1
        try:
            async with asyncio.timeout(patience_s):
                await self.lock.acquire()
        except TimeoutError:
            raise LedgerBusy.now() from None
        finally:
            self._waiting -= 1
        if self.unanswered != before:
            self.lock.release()
            raise LedgerAway.because("it did not answer the call before", exchange=self.unanswered)
