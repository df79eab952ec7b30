"""MAIN PATH: reserve → confirm → settle | release; peek says what reserve would decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.clock import Clock
from libs.ids import JobId, TenantId
from services.ratelimiter import balance as balances
from services.ratelimiter import bucket
from services.ratelimiter.balance import Amount, Balance, Denial
from services.ratelimiter.headers import Header, limit_headers
from services.ratelimiter.ledger import Ledger
from services.ratelimiter.meters import Meters
from services.ratelimiter.policy import Limits
from services.ratelimiter.reservation import Hold, Step
from services.ratelimiter.tariffs import Tariffs
from services.ratelimiter.usage import Settlement, UsageBook, UsageRow

_REMEMBERED_S = 600.0  # repeated calls come within seconds; later ones find the usage row


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision, the headers that tell of it, and the units that could be reserved at once now."""

    denial: Denial | None
    headers: Sequence[Header]
    available_units: float


class Limiter:
    """Decides over tenants by the limits in force. Every call may come twice; the second changes nothing."""

    def __init__(self, tariffs: Tariffs, ledger: Ledger, usage: UsageBook, clock: Clock, meters: Meters) -> None:
        self._tariffs, self._ledger, self._usage = tariffs, ledger, usage
        self._clock, self._meters = clock, meters

    async def reserve(self, hold: Hold) -> Decision:
        """Take one request and the units; a denial takes nothing."""
        limits, now_s = self._limits(hold), self._clock.now()
        verdict = await self._ledger.reserve(hold, limits, now_s)
        self._meters.decided(hold.tier, verdict.denial)
        return _decision(limits, verdict.balance, now_s, verdict.denial)

    async def confirm(self, hold: Hold) -> None:
        """Make it stand. One that the ledger forgot is taken again, unless its job is already settled."""
        limits = self._limits(hold)
        known = await self._ledger.find(hold.tenant_id, hold.reservation_id)
        if known is None and await self._usage.has(hold.reservation_id):
            return
        await self._ledger.advance(Step.CONFIRM, hold, limits, self._clock.now())

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the estimate by the charge, once: the usage row says whether it was done before.

        A repetition still settles a reservation that stands: the first try may have broken off behind the row, or
        its caller was told that the database does not answer and the row was written all the same.
        """
        hold, now_s = settlement.hold, self._clock.now()
        limits = self._limits(hold)
        known = await self._ledger.find(hold.tenant_id, hold.reservation_id)
        micros = limits.micros(settlement.charged_units)
        row = UsageRow(settlement, settled_s=now_s, reserved_s=known.reserved_s if known else None, micros=micros)
        first = await self._usage.record(row)
        if not first and known is None:
            return False
        applied = await self._ledger.advance(Step.SETTLE, hold, limits, now_s, settlement.charged_units)
        if applied:
            self._meters.charged(settlement)
        return applied

    async def release(self, tenant_id: TenantId, reservation_id: JobId) -> bool:
        """Give it back; False when nothing tentative was there."""
        known = await self._ledger.find(tenant_id, reservation_id)
        if known is None:
            return False
        limits = self._limits(known.hold)
        return await self._ledger.advance(Step.RELEASE, known.hold, limits, self._clock.now())

    async def peek(self, tenant_id: TenantId, tier: str, units: float = 0.0) -> Decision:
        """Return what `reserve` would decide; takes nothing."""
        limits, now_s = self._tariffs.of(tenant_id, tier), self._clock.now()
        balance = await self._ledger.balance(tenant_id)
        return _decision(limits, balance, now_s, balances.denial(balance, limits, units, now_s))

    async def expire(self, ttl_s: float) -> int:
        """Give back what nobody confirmed within `ttl_s` and forget what is long over; returns how many expired."""
        now_s, expired = self._clock.now(), 0
        for hold in await self._ledger.unconfirmed(now_s - ttl_s):
            expired += await self._ledger.advance(Step.EXPIRE, hold, self._limits(hold), now_s)
        await self._ledger.forget(now_s - max(_REMEMBERED_S, ttl_s), now_s)
        return expired

    async def rebuild(self) -> int:
        """Put recent usage back into an empty ledger; returns the number of rows."""
        since_s = self._clock.now() - self._tariffs.window_s
        rows = await self._usage.since(since_s)
        for row in rows:
            hold = row.settlement.hold
            recent = row.reserved_s is not None and row.reserved_s >= since_s
            amount = Amount(1.0 if recent else 0.0, row.settlement.charged_units)
            await self._ledger.charge(hold.tenant_id, self._limits(hold), amount, row.settled_s)
        return len(rows)

    def _limits(self, hold: Hold) -> Limits:
        return self._tariffs.of(hold.tenant_id, hold.tier)


def _decision(limits: Limits, balance: Balance, now_s: float, denial: Denial | None) -> Decision:
    left = max(0.0, bucket.available(balance.units, limits.units, now_s))
    return Decision(denial, limit_headers(limits, balance, now_s, denial), left)
