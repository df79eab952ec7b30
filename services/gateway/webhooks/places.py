"""How many deliveries are underway: in all, for a tenant, and to a host for a tenant.

A slow receiver must not take every place, nor a tenant with many of them. What tells of accounts, events and tests of
endpoints, has places of its own: jobs may have webhooks without end.
"""

from __future__ import annotations

from collections import Counter

from libs.clients.deliveries import Busy, Delivery
from libs.ids import TenantId

MOST_UNDERWAY = 128
MOST_A_TENANT = 32
MOST_A_RECEIVER = 8  # a host, for one tenant

MOST_EVENTS = 32  # events of accounts and tests of endpoints together
MOST_EVENTS_A_TENANT = 8
MOST_EVENTS_A_RECEIVER = 2


class Places:
    """Places of one gateway."""

    def __init__(
        self, most: int = MOST_UNDERWAY, most_a_tenant: int = MOST_A_TENANT, most_a_receiver: int = MOST_A_RECEIVER
    ) -> None:
        self._most, self._most_a_tenant, self._most_a_receiver = most, most_a_tenant, most_a_receiver
        self._taken = 0
        self._tenants: Counter[TenantId] = Counter()
        self._receivers: Counter[tuple[TenantId, str]] = Counter()

    @property
    def free(self) -> int:
        """How many more may be underway."""
        return self._most - self._taken

    def busy(self) -> Busy:
        """Return who has all places that they may have."""
        receivers = [receiver for receiver, taken in self._receivers.items() if taken >= self._most_a_receiver]
        return Busy(receivers, [tenant for tenant, taken in self._tenants.items() if taken >= self._most_a_tenant])

    def take(self, delivery: Delivery) -> bool:
        """Take a place for a delivery, and say whether there was one."""
        receiver = delivery.tenant_id, delivery.host
        full = self._tenants[delivery.tenant_id] >= self._most_a_tenant
        if self.free <= 0 or full or self._receivers[receiver] >= self._most_a_receiver:
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
