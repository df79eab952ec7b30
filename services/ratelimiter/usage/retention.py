"""Removes usage and events whose time is over, in small steps."""

from __future__ import annotations

import logging
from typing import Protocol

from libs.clock import Clock
from services.ratelimiter import agent
from services.ratelimiter.tenants.events import TenantEvents

logger = logging.getLogger(__name__)

_EVERY_S = 3600.0


class OldUsage(Protocol):
    """Usage that can be forgotten."""

    async def forget(self, before_s: float) -> int:
        """Remove some of what was settled before a moment; returns how much, 0 when nothing is left."""
        ...


class Retention:
    """Looks every hour for what is older than `life_s` seconds."""

    def __init__(self, usage: OldUsage, events: TenantEvents, clock: Clock, life_s: float) -> None:
        self._usage, self._events, self._clock, self._life_s = usage, events, clock, life_s

    async def run(self) -> None:
        """Run until cancelled."""
        await agent.repeat("retention of usage", self._clock, _EVERY_S, self.sweep)

    async def sweep(self) -> int:
        """Remove all that is old; returns the rows."""
        before_s, gone = self._clock.now() - self._life_s, 0
        while step := await self._usage.forget(before_s):
            gone += step
        await self._events.forget(before_s)
        if gone:
            logger.info("removed old usage", extra={"rows": gone})
        return gone
