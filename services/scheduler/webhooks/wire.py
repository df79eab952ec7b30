"""Deliveries ⇄ messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from darkroom.scheduler.v1 import delivery_service_pb2 as pb
from darkroom.v1 import job_pb2
from libs.errors import InvalidRequest
from libs.ids import JobId, TenantId
from libs.webhooks.shares import Claim
from libs.webhooks.tries import Fate, Told
from libs.wire.timestamp import timestamp
from services.scheduler.webhooks.store import Delivery, Report

MOST_CLAIMED = 256
LEAST_LEASE_S, MOST_LEASE_S = 1.0, 3600.0
_TOLD: Mapping[int, Told] = MappingProxyType(
    {
        pb.ReportDeliveryRequest.DELIVERED: Told.DELIVERED,
        pb.ReportDeliveryRequest.FAILED: Told.FAILED,
        pb.ReportDeliveryRequest.GONE: Told.GONE,
        pb.ReportDeliveryRequest.RETURNED: Told.RETURNED,
    }
)
_FATE: Mapping[Fate, pb.ReportDeliveryResponse.Fate.ValueType] = MappingProxyType(
    {
        Fate.WAITING: pb.ReportDeliveryResponse.WAITING,
        Fate.DELIVERED: pb.ReportDeliveryResponse.DELIVERED,
        Fate.DEAD: pb.ReportDeliveryResponse.DEAD,
        Fate.GONE: pb.ReportDeliveryResponse.GONE,
    }
)


def claim_from_pb(request: pb.ClaimDeliveriesRequest, now: float) -> Claim:
    """Return a claim within its bounds."""
    lease_s = min(MOST_LEASE_S, max(LEAST_LEASE_S, request.lease_s))
    receivers = frozenset((TenantId(each.tenant_id), each.host) for each in request.busy_receivers)
    tenants = frozenset(map(TenantId, request.busy_tenants))
    return Claim(min(request.limit, MOST_CLAIMED), lease_s, now, receivers, tenants)


def delivery_to_pb(delivery: Delivery) -> pb.Delivery:
    """Return a delivery as a claimer gets it."""
    return pb.Delivery(
        job_id=delivery.job_id,
        sequence=delivery.seq,
        tries=delivery.tries,
        tenant_id=delivery.tenant_id,
        url=delivery.url,
        event=delivery.kind,
        time=timestamp(delivery.time),
        state=job_pb2.Job.State.Value(delivery.state.value),
        model=delivery.model,
        model_version=delivery.model_version,
        labels=dict(delivery.labels),
        error_reason=delivery.error_reason,
        image_index=delivery.image_index,
        host=delivery.host,
    )


def fate_to_pb(delivery: Delivery | None) -> pb.ReportDeliveryResponse:
    """Return what a report has made of a delivery; None when it changed nothing."""
    return pb.ReportDeliveryResponse(fate=_FATE[delivery.fate]) if delivery else pb.ReportDeliveryResponse()


def report_from_pb(request: pb.ReportDeliveryRequest, now: float, roll: float) -> Report:
    """Return what a claimer says of its try; raises InvalidRequest when that is nothing."""
    told = _TOLD.get(request.outcome)
    if told is None:
        raise InvalidRequest("The report says nothing about what came of the try.")
    return Report(
        job_id=JobId(request.job_id),
        seq=request.sequence,
        tries=request.tries,
        told=told,
        now=now,
        roll=roll,
        status=request.status,
        reason=request.reason,
        retry_after_s=request.retry_after_s,
    )
