"""What a claimer gets of what is due: the longest due first, but of no tenant and no receiver more than its share.

Otherwise whoever has the most due would have every place of every gateway. Pure; every store applies it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from libs.ids import TenantId

Receiver = tuple[TenantId, str]  # a host, for one tenant: what others send there does not make it busy


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimer has `lease_s` for each of at most `limit` deliveries, none to those whom it calls busy."""

    limit: int
    lease_s: float
    now: float
    busy_receivers: frozenset[Receiver] = frozenset()
    busy_tenants: frozenset[TenantId] = frozenset()
    most_a_receiver: int = 8
    most_a_tenant: int = 16


class Shares:
    """What is left of each share while a claim is put together."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._taken = 0
        self._tenants: Counter[TenantId] = Counter()
        self._receivers: Counter[Receiver] = Counter()

    @property
    def full(self) -> bool:
        """Whether the claim has all that it asked for."""
        return self._taken >= self._claim.limit

    @property
    def busy_tenants(self) -> frozenset[TenantId]:
        """Tenants that get no more."""
        used_up = (tenant for tenant, taken in self._tenants.items() if taken >= self._claim.most_a_tenant)
        return self._claim.busy_tenants.union(used_up)

    @property
    def busy_receivers(self) -> frozenset[Receiver]:
        """Receivers that get no more."""
        used_up = (each for each, taken in self._receivers.items() if taken >= self._claim.most_a_receiver)
        return self._claim.busy_receivers.union(used_up)

    def take(self, tenant: TenantId, host: str) -> bool:
        """Take a delivery if there is room for it, and say whether."""
        receiver = tenant, host
        if self.full or tenant in self.busy_tenants or receiver in self.busy_receivers:
            return False
        self._taken += 1
        self._tenants[tenant] += 1
        self._receivers[receiver] += 1
        return True
