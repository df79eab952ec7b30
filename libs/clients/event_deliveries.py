"""Calls to the rate limiter's WebhookService about deliveries: what of an account's events is to be told, what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from darkroom.ratelimiter.v1 import webhook_service_pb2 as pb
from darkroom.ratelimiter.v1 import webhook_service_pb2_grpc as rpc
from libs.clients.deliveries import Busy, Claimed, Delivery, Result
from libs.ids import EndpointId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated
from libs.telemetry import tracing

_PEER = "rate limiter"


@dataclass(frozen=True, slots=True)
class EventDelivery(Delivery):
    """An event of an account for one of its endpoints."""

    event_id: str
    endpoint_id: EndpointId
    kind: str
    message: str

    @property
    def id(self) -> str:
        """The event: an endpoint is told of it once."""
        return self.event_id

    @property
    def subject(self) -> Mapping[str, object]:
        """The event and the endpoint."""
        return {"event_id": self.event_id, "endpoint_id": self.endpoint_id}


class EventDeliveryClient:
    """One channel's worth of it. Every failure is a DarkroomError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: rpc.WebhookServiceAsyncStub = rpc.WebhookServiceStub(channel)

    async def claim(self, limit: int, lease_s: float, busy: Busy) -> Claimed[EventDelivery]:
        """Lease deliveries that are due, none to those who are busy."""
        receivers = [pb.BusyHost(tenant_id=tenant, host=host) for tenant, host in busy.receivers]
        request = pb.ClaimEventDeliveriesRequest(
            limit=limit, lease_s=lease_s, busy_receivers=receivers, busy_tenants=busy.tenants
        )
        with translated(_PEER), tracing.untraced():  # it is asked every second, mostly for nothing
            answer = await self._stub.ClaimEventDeliveries(request, timeout=deadlines.LIMITER_S)
        return Claimed(tuple(_delivery(each) for each in answer.deliveries), answer.waiting)

    async def report(self, delivery: EventDelivery, result: Result) -> bool:
        """Say what came of a try, and return whether it was the last one of those that all failed."""
        request = pb.ReportEventDeliveryRequest(
            event_id=delivery.event_id,
            endpoint_id=delivery.endpoint_id,
            tries=delivery.tries,
            outcome=pb.ReportEventDeliveryRequest.Outcome.Value(result.outcome.value),
            status=result.status,
            reason=result.reason,
            retry_after_s=result.retry_after_s,
        )
        with translated(_PEER):
            answer = await self._stub.ReportEventDelivery(request, timeout=deadlines.LIMITER_S)
        return answer.fate == pb.EventDelivery.DEAD


def _delivery(message: pb.EventDelivery) -> EventDelivery:
    return EventDelivery(
        tries=message.tries,
        tenant_id=TenantId(message.tenant_id),
        url=message.url,
        host=message.host,
        time=message.time.ToMicroseconds() / 1e6,
        event_id=message.event_id,
        endpoint_id=EndpointId(message.endpoint_id),
        kind=message.kind,
        message=message.message,
    )
