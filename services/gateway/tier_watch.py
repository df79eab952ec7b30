"""Whether each tier still grants the largest picture that it allows, at the prices of now.

The file of the tiers is checked against the prices of before the first measurement. Where a model turns out slower than
that, a tier may allow a picture that its burst never takes: whoever asks for it is refused, and waiting does not help.
Nobody decides that but an operator, so it is told loudly: in the log, and by a series that is above 1.
"""

from __future__ import annotations

import logging

from opentelemetry.metrics import Meter

from libs.clients.limiter import Decision, Reservation
from libs.clock import Clock
from libs.errors import DarkroomError
from libs.generation.largest import Largest, largest_of
from libs.ids import JobId, TenantId
from services.gateway.catalog import CatalogView
from services.gateway.peers import Limiter

logger = logging.getLogger(__name__)

TIERS = ("enterprise", "pro", "payg", "free", "anonymous")
_LOOK_EVERY_S = 15.0
_NOBODY = TenantId("nobody")  # an account of which nothing is used: what is left there is what a tier grants at once
_DEGRADED = "x-ratelimit-degraded"


class TierWatch:
    """Compares again and again; peeks at limits, and takes nothing."""

    def __init__(self, limiter: Limiter, catalog: CatalogView, clock: Clock, meter: Meter) -> None:
        self._limiter, self._catalog, self._clock = limiter, catalog, clock
        self._shares = meter.create_gauge(
            "darkroom_tier_largest_picture",
            description="Price of the largest picture that a tier allows, as a part of what it grants at once.",
        )
        self._told: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """Look now and then until cancelled."""
        await self._catalog.arrived()
        while True:
            try:
                await self.look()
            except DarkroomError as error:
                logger.info("what the tiers grant is not known now", extra={"reason": error.reason})
            await self._clock.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Compare all tiers with all models that draw pictures. Raises Unavailable when the limiter does not answer."""
        found: dict[tuple[str, str], float] = {}
        for tier in TIERS:
            granted = await self._limiter.peek(Reservation(JobId(""), _NOBODY, tier, 0.0, 0))
            if any(name == _DEGRADED for name, _ in granted.headers):
                return  # a share is granted for now
            for model in self._catalog.serving():
                if not model.draws_video:
                    largest = largest_of(model, self._catalog.costs, granted.max_pixels, granted.max_steps)
                    found[tier, model.id] = self._compare(tier, model.id, largest, granted)
        for gone in self._told.keys() - found.keys():
            self._shares.set(0.0, {"tier": gone[0], "model": gone[1]})
        self._told = found

    def _compare(self, tier: str, model_id: str, largest: Largest, granted: Decision) -> float:
        share = largest.units / max(1.0, granted.available_units)
        before = self._told.get((tier, model_id), 0.0)
        if share > 1.0 >= before:
            told = {
                "tier": tier,
                "granted_units": granted.available_units,
                "units": largest.units,
                "asked": str(largest),
            }
            logger.warning(
                "a tier allows a picture that it never grants: raise its units_burst and daily_units, "
                "or lower max_pixels or max_steps",
                extra=told,
            )
        elif share <= 1.0 < before:
            logger.info("a tier grants again what it allows", extra={"tier": tier, "asked": str(largest)})
        self._shares.set(share, {"tier": tier, "model": model_id})
        return share
