"""What happened to a tenant that it should know of: kept in SQL, for operators and for the tenant itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.ids import TenantId


@dataclass(frozen=True, slots=True)
class TenantEvent:
    """Something that happened, in words. The same id is kept once, so what it names is told once; Unix seconds."""

    id: str
    tenant_id: TenantId
    kind: str
    message: str
    at_s: float


class TenantEvents(Protocol):
    """Keeps events. Raises Unavailable when they cannot be reached."""

    async def add(self, events: Sequence[TenantEvent]) -> int:
        """Keep events; returns how many of them were new."""
        ...

    async def latest(self, tenant_id: TenantId, most: int) -> Sequence[TenantEvent]:
        """Return events of a tenant, or of all for an empty id, newest first."""
        ...

    async def forget(self, before_s: float) -> None:
        """Remove those before a moment."""
        ...
