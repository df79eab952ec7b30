"""Puts what usage remembers back into a ledger that has lost all: the buckets of the last minutes, today's counters.

What is in flight is not in the usage: the scheduler's next renewal names it, and is told to confirm it again.
"""

from __future__ import annotations

from services.ratelimiter.balances import booking, days
from services.ratelimiter.balances.balance import Amount
from services.ratelimiter.balances.booking import Touched
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.balances.scope import in_force
from services.ratelimiter.ledgers.ledger import Ledger
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage.book import UsageBook


class Rebuilder:
    """Fills an empty ledger from usage."""

    def __init__(self, tariffs: Tariffs, ledger: Ledger, usage: UsageBook) -> None:
        self._tariffs, self._ledger, self._usage = tariffs, ledger, usage

    async def rebuild(self, now_s: float) -> int:
        """Put recent usage back; returns the number of settlements that the buckets are filled from."""
        since_s = now_s - self._tariffs.window_s
        rows = await self._usage.since(since_s)
        for row in rows:
            recent = row.reserved_s is not None and row.reserved_s >= since_s
            amount = Amount(1.0 if recent else 0.0, row.settlement.charged_units)
            await self._put_back(row.settlement.hold, amount, row.settled_s)
        for total in await self._usage.day_totals(days.begin_s(now_s)):
            await self._put_back(total.hold, Amount(images=total.images, day_units=total.units), now_s)
        return len(rows)

    async def _put_back(self, hold: Hold, amount: Amount, at_s: float) -> None:
        scopes = in_force(self._tariffs, hold.tenant_id, hold.tier, hold.key_id, hold.address, at_s)
        touched = Touched(hold.tenant_id, tuple(scope.account for scope in scopes))
        await self._ledger.transact(touched, lambda held, now_s: booking.put_back(held, scopes, amount, at_s, now_s))
