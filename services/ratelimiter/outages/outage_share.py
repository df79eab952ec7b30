"""What one process may grant while the ledger of all is away: a share of every limit, divided by the processes. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from libs.ids import KeyId, TenantId
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.balances.scope import LimitsInForce
from services.ratelimiter.tiers.policy import Limits
from services.ratelimiter.tiers.tariffs import NO_KEY

_LEAST_SHARE = 0.001  # of a tier that grants nothing: its headers still tell of limits


class Share:
    """Keeps the promises of `scope.LimitsInForce`: those of `whole`, reduced."""

    def __init__(self, whole: LimitsInForce, replicas: int) -> None:
        self._whole, self._replicas = whole, replicas

    def of(self, tenant_id: TenantId, tier: str, key_id: KeyId = NO_KEY) -> Limits:
        """Return the limits of a tenant, or of one key of it."""
        return reduced(self._whole.of(tenant_id, tier, key_id), self._replicas)

    def has_own(self, tenant_id: TenantId, key_id: KeyId) -> bool:
        """Whether a key has limits of its own."""
        return self._whole.has_own(tenant_id, key_id)


def is_closed(limits: Limits, out_for_s: float) -> bool:
    """Whether a tier grants nothing in an outage that has lasted so long."""
    outage = limits.outage
    return outage.share <= 0.0 or (outage.lasts_s is not None and out_for_s > outage.lasts_s)


def reduced(limits: Limits, replicas: int) -> Limits:
    """Return what one of `replicas` grants; of what is counted in wholes at least one."""
    share = max(_LEAST_SHARE, limits.outage.share) / replicas
    daily_units = limits.daily_units
    return replace(
        limits,
        requests=_rate(limits.requests, share, least=1.0),
        units=_rate(limits.units, share),
        in_flight_images=_whole(limits.in_flight_images, share),
        daily_images=_whole(limits.daily_images, share),
        address_daily_images=_whole(limits.address_daily_images, share),
        network_daily_images=_whole(limits.network_images, share),
        daily_units=None if daily_units is None else daily_units * share,
    )


def _rate(rate: Rate, share: float, least: float = 0.0) -> Rate:
    return Rate(rate.per_minute * share, max(least, rate.burst * share))


def _whole(limit: int | None, share: float) -> int | None:
    return None if limit is None else max(1, math.floor(limit * share))
