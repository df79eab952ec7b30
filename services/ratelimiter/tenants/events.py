"""What happened to a tenant that it should know of: kept in SQL, for operators and for the tenant itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from libs.account_events import EventKind
from libs.ids import TenantId

EventPlace: TypeAlias = tuple[float, str]
"""Where an event stands among the others: when it was, in Unix seconds, and its id."""


@dataclass(frozen=True, slots=True)
class TenantEvent:
    """Something that happened, in words. The same id is kept once, so what it names is told once; Unix seconds."""

    id: str
    tenant_id: TenantId
    kind: str
    message: str
    at_s: float

    @property
    def place(self) -> EventPlace:
        """Say where it stands."""
        return self.at_s, self.id


def event_of(tenant_id: TenantId, kind: EventKind, about: str, told: str, now_s: float) -> TenantEvent:
    """Return an event whose id follows from whom and what it is about, and tells nobody either."""
    digest = hashlib.sha256(f"{tenant_id}\n{kind.value}\n{about}".encode()).hexdigest()
    return TenantEvent(f"evt_{digest[:40]}", tenant_id, kind.value, told, now_s)


class TenantEvents(Protocol):
    """Keeps events. Raises Unavailable when they cannot be reached."""

    async def add(self, events: Sequence[TenantEvent]) -> int:
        """Keep events; returns how many of them were new."""
        ...

    async def latest(self, tenant_id: TenantId, most: int, before: EventPlace | None = None) -> Sequence[TenantEvent]:
        """Return events of a tenant, or of all for an empty id, newest first; those `before` a place where it is given."""
        ...

    async def forget(self, before_s: float) -> None:
        """Remove those before a moment."""
        ...
