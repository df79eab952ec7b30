"""Endpoints and deliveries ⇄ messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from darkroom.ratelimiter.v1 import webhook_service_pb2 as pb
from libs.errors import InvalidRequest
from libs.ids import EndpointId, TenantId
from libs.webhooks.shares import Claim
from libs.webhooks.tries import Fate, Told
from libs.wire.timestamp import timestamp
from services.ratelimiter.webhooks.deliveries import Delivery, Report
from services.ratelimiter.webhooks.endpoints import Endpoint

_MOST_CLAIMED = 256
_LEAST_LEASE_S, _MOST_LEASE_S = 1.0, 3600.0
_TOLD: Mapping[int, Told] = MappingProxyType(
    {
        pb.ReportEventDeliveryRequest.DELIVERED: Told.DELIVERED,
        pb.ReportEventDeliveryRequest.FAILED: Told.FAILED,
        pb.ReportEventDeliveryRequest.GONE: Told.GONE,
        pb.ReportEventDeliveryRequest.RETURNED: Told.RETURNED,
    }
)


def endpoint_to_pb(endpoint: Endpoint) -> pb.Endpoint:
    """Return an endpoint as it travels."""
    message = pb.Endpoint(id=endpoint.id, tenant_id=endpoint.tenant_id, url=endpoint.url, kinds=endpoint.kinds)
    message.create_time.CopyFrom(timestamp(endpoint.created_s))
    if endpoint.disabled_s is not None:
        message.disable_time.CopyFrom(timestamp(endpoint.disabled_s))
    return message


def delivery_to_pb(delivery: Delivery) -> pb.EventDelivery:
    """Return a delivery as it travels."""
    message = pb.EventDelivery(
        event_id=delivery.event_id,
        endpoint_id=delivery.endpoint_id,
        tries=delivery.tries,
        tenant_id=delivery.tenant_id,
        url=delivery.url,
        host=delivery.host,
        kind=delivery.kind,
        message=delivery.message,
        time=timestamp(delivery.time),
        fate=_fate(delivery.fate),
        status=delivery.status,
        reason=delivery.reason,
    )
    if delivery.due_at is not None:
        message.due_time.CopyFrom(timestamp(delivery.due_at))
    return message


def claim_from_pb(request: pb.ClaimEventDeliveriesRequest, now: float) -> Claim:
    """Return a claim within its bounds."""
    lease_s = min(_MOST_LEASE_S, max(_LEAST_LEASE_S, request.lease_s))
    receivers = frozenset((TenantId(each.tenant_id), each.host) for each in request.busy_receivers)
    tenants = frozenset(map(TenantId, request.busy_tenants))
    return Claim(min(request.limit, _MOST_CLAIMED), lease_s, now, receivers, tenants)


def report_from_pb(request: pb.ReportEventDeliveryRequest, now: float, roll: float) -> Report:
    """Return what a claimer says of its try; raises InvalidRequest when that is nothing."""
    told = _TOLD.get(request.outcome)
    if told is None:
        raise InvalidRequest("The report says nothing about what came of the try.")
    return Report(
        event_id=request.event_id,
        endpoint_id=EndpointId(request.endpoint_id),
        tries=request.tries,
        told=told,
        now=now,
        roll=roll,
        status=request.status,
        reason=request.reason,
        retry_after_s=request.retry_after_s,
    )


def fate_to_pb(fate: Fate | None) -> pb.ReportEventDeliveryResponse:
    """Return what a report has made of a delivery; None when it changed nothing."""
    return pb.ReportEventDeliveryResponse(fate=_fate(fate) if fate else pb.EventDelivery.UNSPECIFIED)


def _fate(fate: Fate) -> pb.EventDelivery.Fate.ValueType:
    return pb.EventDelivery.Fate.Value(fate.name)
