"""Looks each minute at who used something today, and tells tenants what they should know; each thing once.

Every rate limiter looks; what another has told already is not told again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from libs.clock import Clock
from libs.ids import TenantId
from services.ratelimiter import agent
from services.ratelimiter.balances.days import number_of
from services.ratelimiter.meters import Meters
from services.ratelimiter.strangers.ages import PREFIX
from services.ratelimiter.tenants.events import TenantEvent, TenantEvents
from services.ratelimiter.tenants.tenants import TenantBook
from services.ratelimiter.tenants.wallets import Wallets
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage import alerts as usage_alerts
from services.ratelimiter.usage.alerts import SPIKE_DAYS, Today
from services.ratelimiter.usage.reports import Part, Reports, UsageQuery

logger = logging.getLogger(__name__)

_EVERY_S = 60.0
_AT_ONCE = 200  # tenants


class Alerting:
    """Tells while `run` runs."""

    def __init__(
        self,
        reports: Reports,
        book: TenantBook,
        wallets: Wallets,
        events: TenantEvents,
        tariffs: Tariffs,
        meters: Meters,
        clock: Clock,
    ) -> None:
        self._reports, self._book, self._wallets = reports, book, wallets
        self._events, self._tariffs, self._meters, self._clock = events, tariffs, meters, clock
        self._day, self._told = 0, set[str]()  # ids of today, so that they are not written each minute
        self._most_before: dict[TenantId, float] = {}

    async def run(self) -> None:
        """Look each minute until cancelled."""
        await agent.repeat("usage alerts", self._clock, _EVERY_S, self.look)

    async def look(self) -> None:
        """Look once."""
        day = number_of(self._clock.now())
        if day != self._day:
            self._day, self._told, self._most_before = day, set(), {}
        used = [line async for line in self._reports.read(UsageQuery((Part.TENANT,), from_day=day, to_day=day))]
        tenants = [
            Today(TenantId(line.tenant_id or ""), day, line.images, line.charged_units)
            for line in used
            if not (line.tenant_id or "").startswith(PREFIX)
        ]
        for first in range(0, len(tenants), _AT_ONCE):
            await self._tell([event async for event in self._of(tenants[first : first + _AT_ONCE])])

    async def _of(self, tenants: Sequence[Today]) -> AsyncIterator[TenantEvent]:
        tiers = {tenant.id: tenant.tier for tenant in await self._book.among([today.tenant_id for today in tenants])}
        for today in tenants:
            tier = tiers.get(today.tenant_id)
            if tier is None or tier not in self._tariffs.policy.tiers:
                continue  # a tenant of a token, of whom no tier is kept
            limits, now_s = self._tariffs.of(today.tenant_id, tier), self._clock.now()
            for event in usage_alerts.of_day(today, limits, now_s):
                yield event
            if limits.price_per_1000_units is not None:
                for event in usage_alerts.of_money(await self._wallets.find(today.tenant_id, now_s), now_s):
                    yield event
            if usage_alerts.may_spike(today):
                for event in usage_alerts.of_spike(today, await self._before(today), now_s):
                    yield event

    async def _before(self, today: Today) -> float:
        """Return the most units of one of the days before."""
        if today.tenant_id not in self._most_before:
            first, last = today.day - SPIKE_DAYS, today.day - 1
            query = UsageQuery((Part.DAY,), tenant_id=today.tenant_id, from_day=first, to_day=last)
            days = [line.charged_units async for line in self._reports.read(query)]
            self._most_before[today.tenant_id] = max(days, default=0.0)
        return self._most_before[today.tenant_id]

    async def _tell(self, events: Sequence[TenantEvent]) -> None:
        for event in events:
            if event.id in self._told:
                continue
            if await self._events.add([event]):
                self._meters.told_tenant(event.kind)
                logger.info("told a tenant", extra={"tenant_id": event.tenant_id, "kind": event.kind})
            self._told.add(event.id)
