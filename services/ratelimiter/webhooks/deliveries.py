"""Deliveries of events: one for an event and an endpoint, committed with the event, claimed and reported by gateways.

`due_at` says when one may be claimed: a claim moves it to the end of the lease, so that a claimer that dies leaves it due
again. `libs.webhooks` says who gets how many and when one that failed is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.ids import EndpointId, TenantId
from libs.webhooks.shares import Claim
from libs.webhooks.tries import Fate, Told
from services.ratelimiter.tenants.events import TenantEvent
from services.ratelimiter.webhooks.endpoints import Endpoint


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that an endpoint is to be told of. Times in Unix seconds."""

    event_id: str
    endpoint_id: EndpointId
    tenant_id: TenantId
    url: str
    host: str
    kind: str
    message: str
    time: float  # of the event
    tries: int = 0  # claims so far that were not given back
    due_at: float | None = None  # when it may be claimed; None: it is over
    fate: Fate = Fate.WAITING
    status: int = 0  # HTTP status of the latest try that was answered
    reason: str = ""  # why the latest try failed


@dataclass(frozen=True, slots=True)
class Report:
    """What came of try number `tries`. `roll`, from 0 to 1, spreads the next try."""

    event_id: str
    endpoint_id: EndpointId
    tries: int
    told: Told
    now: float
    roll: float
    status: int = 0
    reason: str = ""
    retry_after_s: float = 0.0


class EventDeliveries(Protocol):
    """Keeps deliveries. Raises Unavailable when they cannot be reached."""

    async def claim(self, claim: Claim) -> Sequence[Delivery]:
        """Lease deliveries that are due, the longest due first within the shares; no two claimers get the same one."""
        ...

    async def report(self, report: Report) -> Fate | None:
        """Note what came of a try and return what has become of the delivery.

        One that is gone disables its endpoint and takes what waits for it with it. None when the report changes
        nothing: the delivery is over, its endpoint is deleted, or it failed and was claimed again since.
        """
        ...

    async def waiting(self, most: int) -> int:
        """Return how many are not over; `most` when there are more."""
        ...

    async def latest(self, endpoint_id: EndpointId, most: int) -> Sequence[Delivery]:
        """Return deliveries of an endpoint, newest event first."""
        ...


def delivery_of(event: TenantEvent, endpoint: Endpoint) -> Delivery:
    """Return what is to be sent to an endpoint."""
    return Delivery(
        event.id,
        endpoint.id,
        event.tenant_id,
        endpoint.url,
        endpoint.host,
        event.kind,
        event.message,
        event.at_s,
        due_at=event.at_s,
    )
