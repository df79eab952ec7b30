"""Addresses that an account's events are sent to, asked of the rate limiter on behalf of a caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from darkroom.ratelimiter.v1 import webhook_service_pb2 as pb
from darkroom.ratelimiter.v1 import webhook_service_pb2_grpc as rpc
from libs.ids import EndpointId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated

_PEER = "rate limiter"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and the kinds of events that are sent there, all when there are none; Unix seconds."""

    id: EndpointId
    url: str
    events: tuple[str, ...]
    created_s: float
    disabled_s: float | None = None


@dataclass(frozen=True, slots=True)
class EventFate:
    """An event of an endpoint and what became of it; `fate` is a name on the wire, Unix seconds."""

    event_id: str
    kind: str
    at_s: float
    fate: str
    tries: int
    status: int
    reason: str
    due_s: float | None


class EndpointsClient:
    """Typed calls with a deadline. Failures are domain errors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: rpc.WebhookServiceAsyncStub = rpc.WebhookServiceStub(channel)

    async def create(self, tenant_id: TenantId, url: str, events: Sequence[str]) -> Endpoint:
        """Make an endpoint. Raises InvalidRequest, and PreconditionFailed for too many."""
        request = pb.CreateEndpointRequest(tenant_id=tenant_id, url=url, kinds=events)
        with translated(_PEER):
            return _endpoint(await self._stub.CreateEndpoint(request, timeout=deadlines.LIMITER_S))

    async def list(self, tenant_id: TenantId) -> Sequence[Endpoint]:
        """Return the endpoints of a tenant, oldest first."""
        request = pb.ListEndpointsRequest(tenant_id=tenant_id)
        with translated(_PEER):
            answer = await self._stub.ListEndpoints(request, timeout=deadlines.LIMITER_S)
        return [_endpoint(each) for each in answer.endpoints]

    async def get(self, tenant_id: TenantId, endpoint_id: EndpointId) -> Endpoint:
        """Return one. Raises NotFound."""
        request = pb.GetEndpointRequest(tenant_id=tenant_id, id=endpoint_id)
        with translated(_PEER):
            return _endpoint(await self._stub.GetEndpoint(request, timeout=deadlines.LIMITER_S))

    async def delete(self, tenant_id: TenantId, endpoint_id: EndpointId) -> None:
        """Remove one, and what waits for it. Raises NotFound."""
        request = pb.DeleteEndpointRequest(tenant_id=tenant_id, id=endpoint_id)
        with translated(_PEER):
            await self._stub.DeleteEndpoint(request, timeout=deadlines.LIMITER_S)

    async def deliveries(self, tenant_id: TenantId, endpoint_id: EndpointId) -> Sequence[EventFate]:
        """Return what was and is to be sent to one, newest event first. Raises NotFound."""
        request = pb.ListEventDeliveriesRequest(tenant_id=tenant_id, endpoint_id=endpoint_id)
        with translated(_PEER):
            answer = await self._stub.ListEventDeliveries(request, timeout=deadlines.LIMITER_S)
        return [_fate(each) for each in answer.deliveries]


def _endpoint(message: pb.Endpoint) -> Endpoint:
    disabled_s = message.disable_time.ToMicroseconds() / 1e6 if message.HasField("disable_time") else None
    created_s = message.create_time.ToMicroseconds() / 1e6
    return Endpoint(EndpointId(message.id), message.url, tuple(message.kinds), created_s, disabled_s)


def _fate(message: pb.EventDelivery) -> EventFate:
    return EventFate(
        message.event_id,
        message.kind,
        message.time.ToMicroseconds() / 1e6,
        pb.EventDelivery.Fate.Name(message.fate),
        message.tries,
        message.status,
        message.reason,
        message.due_time.ToMicroseconds() / 1e6 if message.HasField("due_time") else None,
    )
