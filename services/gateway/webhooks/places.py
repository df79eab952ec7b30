"""How many deliveries are underway: in all, for a tenant, and to a host for a tenant.

A slow receiver must not take every place, nor a tenant with many of them.
"""

from __future__ import annotations

from collections import Counter

from libs.clients.deliveries import Busy, Delivery
from libs.ids import TenantId

MOST_UNDERWAY = 128
MOST_A_TENANT = 32
MOST_A_RECEIVER = 8  # a host, for one tenant


class Places:
    """The places of one gateway."""

    def __init__(self) -> None:
        self._taken = 0
        self._tenants: Counter[TenantId] = Counter()
        self._receivers: Counter[tuple[TenantId, str]] = Counter()

    @property
    def free(self) -> int:
        """How many more may be underway."""
        return MOST_UNDERWAY - self._taken

    def busy(self) -> Busy:
        """Return who has all places that they may have."""
        receivers = [receiver for receiver, taken in self._receivers.items() if taken >= MOST_A_RECEIVER]
        return Busy(receivers, [tenant for tenant, taken in self._tenants.items() if taken >= MOST_A_TENANT])

    def take(self, delivery: Delivery) -> bool:
        """Take a place for a delivery, and say whether there was one."""
        receiver = delivery.tenant_id, delivery.host
        shares = self._tenants[delivery.tenant_id] < MOST_A_TENANT and self._receivers[receiver] < MOST_A_RECEIVER
        if self.free <= 0 or not shares:
            return False
        self._add(delivery, 1)
        return True

    def leave(self, delivery: Delivery) -> bool:
        """Give a place back, and say whether somebody may go on who could not before."""
        busy = self.busy()
        full = self.free <= 0 or delivery.tenant_id in busy.tenants
        full = full or (delivery.tenant_id, delivery.host) in busy.receivers
        self._add(delivery, -1)
        return full

    def _add(self, delivery: Delivery, count: int) -> None:
        self._taken += count
        self._tenants[delivery.tenant_id] += count
        self._receivers[delivery.tenant_id, delivery.host] += count
        self._tenants, self._receivers = +self._tenants, +self._receivers  # nobody is remembered who has none
