"""WebhookService: endpoints in the hands of their tenants, and what gateways send to them."""

from __future__ import annotations

import random
from typing import Any

import grpc

from darkroom.ratelimiter.v1 import webhook_service_pb2 as pb
from darkroom.ratelimiter.v1 import webhook_service_pb2_grpc as rpc
from libs.clock import Clock
from libs.ids import EndpointId, TenantId
from libs.webhooks.counting import Waiting
from services.ratelimiter.webhooks import wire
from services.ratelimiter.webhooks.deliveries import EventDeliveries
from services.ratelimiter.webhooks.endpoints import OwnEndpoints

_Context = grpc.aio.ServicerContext[Any, Any]
_LISTED = 100  # deliveries of an endpoint


class WebhookServicer(rpc.WebhookServiceServicer):
    """What gateways ask: for tenants whose scopes they have checked, and for themselves."""

    def __init__(self, own: OwnEndpoints, deliveries: EventDeliveries, clock: Clock) -> None:
        self._own, self._deliveries, self._clock = own, deliveries, clock
        self._waiting = Waiting(deliveries.waiting, clock)

    async def CreateEndpoint(self, request: pb.CreateEndpointRequest, _context: _Context) -> pb.Endpoint:
        """Make an endpoint."""
        made = await self._own.create(TenantId(request.tenant_id), request.url, request.kinds)
        return wire.endpoint_to_pb(made)

    async def ListEndpoints(self, request: pb.ListEndpointsRequest, _context: _Context) -> pb.ListEndpointsResponse:
        """List the endpoints of a tenant."""
        found = await self._own.list(TenantId(request.tenant_id))
        return pb.ListEndpointsResponse(endpoints=[wire.endpoint_to_pb(each) for each in found])

    async def GetEndpoint(self, request: pb.GetEndpointRequest, _context: _Context) -> pb.Endpoint:
        """Tell one endpoint."""
        return wire.endpoint_to_pb(await self._own.get(TenantId(request.tenant_id), EndpointId(request.id)))

    async def DeleteEndpoint(self, request: pb.DeleteEndpointRequest, _context: _Context) -> pb.DeleteEndpointResponse:
        """Remove an endpoint."""
        await self._own.remove(TenantId(request.tenant_id), EndpointId(request.id))
        return pb.DeleteEndpointResponse()

    async def ListEventDeliveries(
        self, request: pb.ListEventDeliveriesRequest, _context: _Context
    ) -> pb.ListEventDeliveriesResponse:
        """List what was and is to be sent to an endpoint."""
        endpoint = await self._own.get(TenantId(request.tenant_id), EndpointId(request.endpoint_id))
        found = await self._deliveries.latest(endpoint.id, _LISTED)
        return pb.ListEventDeliveriesResponse(deliveries=[wire.delivery_to_pb(each) for each in found])

    async def ClaimEventDeliveries(
        self, request: pb.ClaimEventDeliveriesRequest, _context: _Context
    ) -> pb.ClaimEventDeliveriesResponse:
        """Lease deliveries that are due."""
        claimed = await self._deliveries.claim(wire.claim_from_pb(request, self._clock.now()))
        told = [wire.delivery_to_pb(each) for each in claimed]
        return pb.ClaimEventDeliveriesResponse(deliveries=told, waiting=await self._waiting.deliveries())

    async def ReportEventDelivery(
        self, request: pb.ReportEventDeliveryRequest, _context: _Context
    ) -> pb.ReportEventDeliveryResponse:
        """Note what came of a delivery; a report that changes nothing any more is answered alike."""
        report = wire.report_from_pb(request, self._clock.now(), random.random())
        return wire.fate_to_pb(await self._deliveries.report(report))
