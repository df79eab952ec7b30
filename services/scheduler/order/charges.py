"""What was charged by estimate, until the attempts are over and it is corrected by what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.ids import JobId, TenantId
from services.scheduler.order.account import Account
from services.scheduler.order.tier import Tier
from services.scheduler.order.waiting import Entry, Waiting

LEAST_UNITS = 10.0  # what any start costs: nobody is served for nothing


@dataclass(frozen=True, slots=True)
class _Charge:
    """Units charged at a start, and how often those who pay had come back by then."""

    tier: str
    tenant_id: TenantId
    images: int
    units: float
    tenant_weight: float
    tenant_lifts: int
    tier_lifts: int | None  # None: it went by the lane, the tier was not charged


class Charges:
    """Open charges by job."""

    def __init__(self) -> None:
        self._open: dict[JobId, _Charge] = {}

    def copy(self) -> Charges:
        """Return one that goes its own way."""
        twin = Charges()
        twin._open = self._open.copy()
        return twin

    def charge(self, tier: Tier, entry: Entry, *, by_lane: bool) -> None:
        """Charge a job that starts, before it is taken out."""
        waiting = entry[2]
        units = max(LEAST_UNITS, waiting.units)
        tenant = tier.charge(entry, units)
        if not by_lane:
            tier.account.charge(units)
        lifts = None if by_lane else tier.account.lifts
        self._open[waiting.job_id] = _charge(waiting, units, tenant, lifts)

    def take_up(self, tier: Tier, waiting: Waiting) -> None:
        """Count a job that runs since an earlier leader; it is charged at its end, and the tenant alone."""
        if waiting.job_id not in self._open:
            tenant = tier.take_up(waiting)
            self._open[waiting.job_id] = _charge(waiting, LEAST_UNITS, tenant, None)

    def settle(self, tiers: Mapping[str, Tier], job_id: JobId, actual_units: float) -> bool:
        """Correct a charge; False when there is none."""
        charge = self._open.pop(job_id, None)
        if charge is None:
            return False
        tier = tiers[charge.tier]
        difference = max(LEAST_UNITS, actual_units) - charge.units
        tier.correct(charge.tenant_id, charge.images, difference / charge.tenant_weight, charge.tenant_lifts)
        if charge.tier_lifts is not None:
            tier.account.correct(difference / tier.account.weight, charge.tier_lifts)
        return True


def _charge(waiting: Waiting, units: float, tenant: Account, tier_lifts: int | None) -> _Charge:
    return _Charge(
        waiting.tier, waiting.tenant_id, waiting.images, units, tenant.weight, tenant.lifts, tier_lifts=tier_lifts
    )
