"""WebhookService: check what is asked for, ask the rate limiter, convert. Secrets are made here and kept nowhere."""

from __future__ import annotations

from collections.abc import Callable

from darkroom.v1 import webhook_service_pb2 as pb
from darkroom.v1.webhook_service_pb2_grpc import WebhookServiceServicer
from libs.clients.deliveries import Outcome
from libs.clients.endpoints import Endpoint, EventFate
from libs.errors import InvalidRequest, listed
from libs.ids import EndpointId, new_ulid
from libs.rpc import headers
from libs.wire.timestamp import timestamp
from services.gateway.callers.identity import Context, caller_of
from services.gateway.callers.request_count import RequestCount
from services.gateway.creating import parsing
from services.gateway.peers import Endpoints
from services.gateway.webhooks.destinations import Destinations
from services.gateway.webhooks.trials import Trials

_MADE = ("x-http-code", "201")
_NOT_KEPT = ("cache-control", "no-store")  # a secret is in the answer


class WebhookServicer(WebhookServiceServicer):
    """Looks after the endpoints of the caller's account. Making and trying one are a request of the minute each."""

    def __init__(
        self,
        endpoints: Endpoints,
        destinations: Destinations,
        secret_of: Callable[[EndpointId], str],
        trials: Trials,
        requests: RequestCount,
    ) -> None:
        self._endpoints, self._destinations, self._secret_of = endpoints, destinations, secret_of
        self._trials, self._requests = trials, requests

    async def CreateWebhookEndpoint(
        self, request: pb.CreateWebhookEndpointRequest, context: Context
    ) -> pb.NewWebhookEndpoint:
        """Make an endpoint."""
        if problems := self._destinations.endpoint_problems(request.url, request.events):
            raise InvalidRequest(f"No endpoint was made: {listed(problems)}.", violations=problems)
        await self._count(context)
        made = await self._endpoints.create(caller_of(context).tenant_id, request.url, request.events)
        headers.add([_MADE, _NOT_KEPT])
        return pb.NewWebhookEndpoint(endpoint=_endpoint(made), secret=self._secret_of(made.id))

    async def CreateWebhookEndpointJson(
        self, request: pb.CreateWebhookEndpointJsonRequest, context: Context
    ) -> pb.NewWebhookEndpoint:
        """Do it from the body of a REST call."""
        wanted = parsing.parse_message(request.body.data, pb.CreateWebhookEndpointRequest())
        return await self.CreateWebhookEndpoint(wanted, context)

    async def ListWebhookEndpoints(
        self, _request: pb.ListWebhookEndpointsRequest, context: Context
    ) -> pb.ListWebhookEndpointsResponse:
        """List endpoints without their secrets."""
        found = await self._endpoints.list(caller_of(context).tenant_id)
        return pb.ListWebhookEndpointsResponse(endpoints=[_endpoint(each) for each in found])

    async def DeleteWebhookEndpoint(
        self, request: pb.DeleteWebhookEndpointRequest, context: Context
    ) -> pb.DeleteWebhookEndpointResponse:
        """Remove an endpoint."""
        await self._endpoints.delete(caller_of(context).tenant_id, EndpointId(request.id))
        return pb.DeleteWebhookEndpointResponse()

    async def TestWebhookEndpoint(
        self, request: pb.TestWebhookEndpointRequest, context: Context
    ) -> pb.TestWebhookEndpointResponse:
        """Send a test event."""
        await self._count(context)
        tenant_id = caller_of(context).tenant_id
        result = await self._trials.send(tenant_id, await self._endpoints.get(tenant_id, EndpointId(request.id)))
        delivered = result.outcome is Outcome.DELIVERED
        return pb.TestWebhookEndpointResponse(delivered=delivered, status=result.status, reason=result.reason)

    async def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, context: Context
    ) -> pb.ListWebhookDeliveriesResponse:
        """List what was and is to be sent."""
        found = await self._endpoints.deliveries(caller_of(context).tenant_id, EndpointId(request.id))
        return pb.ListWebhookDeliveriesResponse(deliveries=[_delivery(each) for each in found])

    async def _count(self, context: Context) -> None:
        await self._requests.take(caller_of(context), f"webhooks_{new_ulid()}")


def _endpoint(endpoint: Endpoint) -> pb.WebhookEndpoint:
    message = pb.WebhookEndpoint(id=endpoint.id, url=endpoint.url, events=endpoint.events)
    message.create_time.CopyFrom(timestamp(endpoint.created_s))
    if endpoint.disabled_s is not None:
        message.disable_time.CopyFrom(timestamp(endpoint.disabled_s))
    return message


def _delivery(sent: EventFate) -> pb.WebhookDelivery:
    message = pb.WebhookDelivery(
        event_id=sent.event_id,
        event=sent.kind,
        event_time=timestamp(sent.at_s),
        fate=pb.WebhookDelivery.Fate.Value(sent.fate),
        tries=sent.tries,
        status=sent.status,
        reason=sent.reason,
    )
    if sent.due_s is not None:
        message.next_try_time.CopyFrom(timestamp(sent.due_s))
    return message
