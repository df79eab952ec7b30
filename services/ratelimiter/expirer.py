"""Gives back the reservations whose gateway died before the job was committed."""

from __future__ import annotations

import logging

from libs.clock import Clock
from services.ratelimiter import agent
from services.ratelimiter.decider import Decider

logger = logging.getLogger(__name__)

_EVERY_S = 1.0


class Expirer:
    """Looks every second for reservations older than `ttl_s` that nobody confirmed."""

    def __init__(self, limiter: Decider, clock: Clock, ttl_s: float) -> None:
        self._limiter, self._clock, self._ttl_s = limiter, clock, ttl_s

    async def run(self) -> None:
        """Run until cancelled."""
        await agent.repeat("the expirer", self._clock, _EVERY_S, self._sweep)

    async def _sweep(self) -> None:
        expired = await self._limiter.expire(self._ttl_s)
        if expired:
            logger.info("gave unconfirmed reservations back", extra={"reservations": expired})
