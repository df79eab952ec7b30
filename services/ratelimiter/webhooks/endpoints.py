"""Addresses that tenants have their events sent to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from libs import account_events
from libs.clock import Clock
from libs.errors import InvalidRequest, NotFound, PreconditionFailed, Violation, listed
from libs.generation.webhook import receiver_of
from libs.ids import EndpointId, TenantId, new_endpoint_id

MOST_ENDPOINTS = 10  # of one tenant, those that want nothing more among them
_MOST_URL = 1000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and the kinds of events that are sent there, all when there are none; Unix seconds.

    `disabled_s` is when it said that it wants nothing more.
    """

    id: EndpointId
    tenant_id: TenantId
    url: str
    host: str
    kinds: tuple[str, ...]
    created_s: float
    disabled_s: float | None = None

    def wants(self, kind: str) -> bool:
        """Whether events of a kind are sent there."""
        return self.disabled_s is None and (not self.kinds or kind in self.kinds)


class Endpoints(Protocol):
    """Keeps endpoints. Raises Unavailable when they cannot be reached."""

    async def add(self, endpoint: Endpoint, most: int) -> bool:
        """Keep an endpoint unless its tenant has `most`, and say whether."""
        ...

    async def list(self, tenant_id: TenantId) -> Sequence[Endpoint]:
        """Return the endpoints of a tenant, oldest first."""
        ...

    async def remove(self, tenant_id: TenantId, endpoint_id: EndpointId) -> bool:
        """Remove an endpoint of a tenant and its deliveries; False when there is none."""
        ...


class OwnEndpoints:
    """Endpoints in the hands of their tenant. Nobody reaches another tenant's."""

    def __init__(self, kept: Endpoints, clock: Clock) -> None:
        self._kept, self._clock = kept, clock

    async def create(self, tenant_id: TenantId, url: str, kinds: Sequence[str]) -> Endpoint:
        """Make an endpoint. Raises InvalidRequest, and PreconditionFailed for too many."""
        problems = [*_url_problems(url), *_kind_problems(kinds)]
        if problems:
            raise InvalidRequest(f"No endpoint was made: {listed(problems)}.", violations=problems)
        wanted = tuple(kind for kind in account_events.NAMES if kind in kinds)
        now_s = self._clock.now()
        endpoint = Endpoint(new_endpoint_id(now_s), tenant_id, url, _host_of(url), wanted, now_s)
        if not await self._kept.add(endpoint, MOST_ENDPOINTS):
            told = f"An account has at most {MOST_ENDPOINTS} webhook endpoints, and these are there. Delete one first."
            raise PreconditionFailed(f"{told} No endpoint was made.", metadata={"endpoints": str(MOST_ENDPOINTS)})
        return endpoint

    async def list(self, tenant_id: TenantId) -> Sequence[Endpoint]:
        """Return the endpoints of a tenant, oldest first."""
        return await self._kept.list(tenant_id)

    async def get(self, tenant_id: TenantId, endpoint_id: EndpointId) -> Endpoint:
        """Return one endpoint. Raises NotFound."""
        found = [each for each in await self._kept.list(tenant_id) if each.id == endpoint_id]
        if not found:
            raise _missing()
        return found[0]

    async def remove(self, tenant_id: TenantId, endpoint_id: EndpointId) -> None:
        """Remove an endpoint. Raises NotFound."""
        if not await self._kept.remove(tenant_id, endpoint_id):
            raise _missing()


def _host_of(url: str) -> str:
    receiver = receiver_of(url)
    return receiver.host if receiver else ""


def _url_problems(url: str) -> list[Violation]:
    fine = len(url) <= _MOST_URL and _host_of(url)
    return [] if fine else [Violation("url", f"must be a URL with a host, of at most {_MOST_URL} characters")]


def _kind_problems(kinds: Sequence[str]) -> list[Violation]:
    unknown = next((kind for kind in kinds if kind not in account_events.NAMES), None)
    if unknown is None:
        return []
    return [Violation("events", f"must be of {', '.join(account_events.NAMES)}; {unknown[:20]!r} is none")]


def _missing() -> NotFound:
    return NotFound("Your account has no such webhook endpoint.", reason="WEBHOOK_NOT_FOUND")
