"""What was agreed with tenants, brought from SQL into memory again and again, so that every replica knows it soon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from libs.clock import Clock
from libs.ids import TenantId
from services.ratelimiter import agent
from services.ratelimiter.tiers.tariffs import Agreement, Tariffs

_LOOK_EVERY_S = 2.0
_OVERLAP_S = 60.0  # clocks of replicas differ, and what is committed may be older than what was read before


class Agreements(Protocol):
    """Keeps agreements. Raises Unavailable when it cannot be reached."""

    async def since(self, changed_s: float) -> Sequence[Agreement]:
        """Return what was changed from a moment on, tenants and keys."""
        ...

    async def of(self, tenant_ids: Sequence[TenantId]) -> Sequence[Agreement]:
        """Return what is agreed with tenants and for their keys."""
        ...

    async def put(self, agreement: Agreement) -> None:
        """Have it hold from now on, in the place of the one before."""
        ...


class Agreed:
    """Follows the agreements while `run` runs. While SQL is away those known stay in force."""

    def __init__(self, agreements: Agreements, tariffs: Tariffs, clock: Clock) -> None:
        self._agreements, self._tariffs, self._clock = agreements, tariffs, clock
        self._seen_s = 0.0

    async def run(self) -> None:
        """Look now and then until cancelled."""
        await agent.repeat("the agreements", self._clock, _LOOK_EVERY_S, self.look)

    async def look(self) -> None:
        """Take what has changed since the last look; the first takes all."""
        changed = await self._agreements.since(self._seen_s - _OVERLAP_S)
        self._tariffs.take_agreements(changed)
        self._seen_s = max([self._seen_s, *(agreement.changed_s for agreement in changed)])
