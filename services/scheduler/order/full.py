"""Tenants with as much on devices as may be there: they stand in no line until one of their jobs ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from libs.ids import TenantId
from services.scheduler.order.tenant import Tenant

NOWHERE = math.nan  # no entry of a line has this time


class Full:
    """Who is full, by name."""

    def __init__(self, names: Iterable[TenantId] = ()) -> None:
        self._names = dict.fromkeys(names)

    def __contains__(self, name: TenantId) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[TenantId]:
        return iter(self._names)

    def copy(self) -> Full:
        """Return one that goes its own way."""
        return Full(self._names)

    def note(self, name: TenantId, tenant: Tenant) -> bool:
        """Take note of how much a tenant has on devices; True when it is to be lined up again."""
        if tenant.full == (name in self._names):
            return False
        if not tenant.full:
            del self._names[name]
            return True
        self._names[name] = None
        for model in tenant.queues:
            tenant.own(model).key = NOWHERE
        return False

    def models(self, tenants: Mapping[TenantId, Tenant]) -> list[str]:
        """Return the models that they wait for."""
        return [model for name in self._names for model in tenants[name].queues]
